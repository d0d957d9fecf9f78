"""The command before any configuration: help, version, wrong words, and what it does without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer

from monitor.cli.lazy import COMMANDS, hoist, load_command
from tests.acceptance.command import narrows, succeeded

PRESENT = [name for name, entry in COMMANDS.items() if Path(f"{entry.module.replace('.', '/')}.py").exists()]

pytestmark = pytest.mark.acceptance


def test_version_is_one_line(tmp_path: Path) -> None:
    """For bug reports and scripts."""
    assert succeeded("--version", cwd=tmp_path).out.startswith("narrows ")


def test_help_lists_every_command_by_section(tmp_path: Path) -> None:
    """Within the width of a terminal."""
    help_text = succeeded("--help", cwd=tmp_path).out
    assert "Set up:" in help_text
    assert "dead-letters" in help_text
    assert max(map(len, help_text.splitlines())) <= 80


@pytest.mark.parametrize("name", PRESENT)
def test_help_of_every_command_has_an_example(name: str) -> None:
    """Also of the commands within a group."""
    command = load_command(name)
    for each in [command, *getattr(command, "commands", {}).values()]:
        assert "Example" in (each.help or ""), f"narrows {name} {each.name}"


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("monitor.cli", "torch kafka sqlalchemy pydantic numpy rich"),
        ("monitor.cli.alerts, monitor.store, monitor.settings", "torch kafka sklearn apscheduler"),
        ("monitor.cli.models, monitor.store, monitor.settings", "torch kafka sklearn apscheduler"),
        ("monitor.cli.train, monitor.cli.evaluate", "torch kafka sklearn"),
    ],
)
def test_import_is_no_heavier_than_the_command_needs(module: str, unwanted: str) -> None:
    """Torch alone takes seconds; nobody should wait for it to read a list."""
    code = f"import sys, {module}; print(*set(sys.modules) & set({unwanted.split()!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_unknown_command_is_wrong_use(tmp_path: Path) -> None:
    """Exit status 2, on stderr, with the nearest name."""
    ended = narrows("chek", cwd=tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert "check" in ended.err


def test_hoist_moves_options_of_the_program_to_the_front() -> None:
    """``--config`` may stand where people put it, but not behind ``--``."""
    assert hoist(["train", "x", "--config", "c", "--json"]) == ["--config", "c", "train", "x", "--json"]
    assert hoist(["check", "--config=c", "--debug"]) == ["--config=c", "--debug", "check"]
    assert hoist(["train", "--", "--config", "c"]) == ["train", "--", "--config", "c"]
    assert hoist(["check", "--config"]) == ["--config", "check"]


def test_app_is_a_typer_application() -> None:
    """What documentation tools look for."""
    from monitor.cli import app  # noqa: PLC0415 - the module is the subject

    assert isinstance(app, typer.Typer)


def test_reader_that_stops_early_is_no_error(tmp_path: Path) -> None:
    """``narrows ... | head`` ends without a stack trace."""
    command = f"{Path(sys.executable).with_name('narrows')} check --show-config | head -1"
    environ = {"NARROWS_STORE__URL": "sqlite:///x.db"}
    done = subprocess.run(
        command,
        shell=True,
        cwd=tmp_path,
        env=environ | {"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "{\n"
    assert done.stderr == ""
