"""Wrong use and wrong configuration: exit 2, one message on stderr, nothing on stdout, no stack trace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.acceptance.command import Ended, narrows, succeeded

CONFIG = '[[streams]]\nname = "gas"\ntopic = "t"\n[streams.schema]\ndimension = 3\n'

pytestmark = pytest.mark.acceptance


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a configuration and a file of another dimension."""
    (tmp_path / "narrows.toml").write_text(CONFIG)
    np.savez(tmp_path / "wide.npz", X=np.arange(120.0).reshape(30, 4), y=np.arange(30) % 2)
    return tmp_path


def refused(ended: Ended, *words: str) -> None:
    """It was wrong use, and the message has these words."""
    assert (ended.code, ended.out) == (2, "")
    assert "Traceback" not in ended.err
    for word in words:
        assert word in ended.err


def test_command_names_file_key_and_remedy_of_a_bad_configuration(folder: Path) -> None:
    """The words of the settings reach the person."""
    (folder / "narrows.toml").write_text(CONFIG + '[streams.detector]\nprofil = "fast"\n')
    ended = narrows("models", "list", cwd=folder)
    refused(ended, "narrows.toml", "streams.gas.detector.profil", "Did you mean profile?")


def test_command_without_any_configuration_creates_no_database(tmp_path: Path) -> None:
    """It says how to begin instead."""
    refused(narrows("alerts", "list", cwd=tmp_path), "narrows init", "NARROWS_STORE__URL")
    assert list(tmp_path.iterdir()) == []


def test_train_compares_the_dimension_with_the_configuration(folder: Path) -> None:
    """And names both numbers, before a minute of training."""
    refused(narrows("train", "wide.npz", cwd=folder), "wide.npz has 4 features", "streams.gas.schema.dimension = 3")


def test_train_refuses_a_file_that_cannot_be_learned_from(folder: Path) -> None:
    """The science's reason, with the name of the file."""
    np.savez(folder / "tiny.npz", X=np.ones((2, 3)), y=np.arange(2))
    refused(narrows("train", "tiny.npz", cwd=folder), "tiny.npz: ")


def test_evaluate_refuses_a_class_that_is_not_there(folder: Path) -> None:
    """And lists those that are."""
    refused(narrows("evaluate", "wide.npz", "--held-out", "9", cwd=folder), "wide.npz: There is no class 9")
    refused(narrows("evaluate", "wide.npz", "--seeds", "a", cwd=folder), "--seeds a")


def test_init_never_replaces_a_file_unless_told_to(folder: Path) -> None:
    """Nor writes one that does not load."""
    refused(narrows("init", cwd=folder), "is there already", "--force")
    refused(narrows("init", "--force", "--name", "9 lives", cwd=folder), "is not a name")
    assert (folder / "narrows.toml").read_text() == CONFIG
    succeeded("init", "--force", "--dimension", 5, cwd=folder)
    assert "dimension = 5 " in (folder / "narrows.toml").read_text()


@pytest.mark.parametrize(
    "words",
    [
        ("thresholds", "set", "a", "nan"),
        ("thresholds", "set", "a", "0"),
        ("dead-letters", "redrive"),
        ("alerts", "list", "--since", "yesterday"),
        ("alerts", "show", "x"),
        ("train", "no.npz"),
        ("check", "--stream", "air"),
        ("check", "--config", "no.toml"),
    ],
)
def test_command_refuses_arguments_that_it_cannot_use(folder: Path, words: tuple[str, ...]) -> None:
    """Whoever checks them, the library or we, it looks the same to a script."""
    refused(narrows(*words, cwd=folder))


def test_debug_adds_the_stack_trace(folder: Path) -> None:
    """For bug reports."""
    ended = narrows("train", "no.npz", "--debug", cwd=folder)
    assert ended.code == 2
    assert "Traceback" in ended.err
