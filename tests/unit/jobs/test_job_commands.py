"""``narrows jobs`` and ``narrows schedule`` as a user types them, against a fresh SQLite file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from monitor.cli import app
from monitor.cli.jobs import _JOBS, _RUNS
from monitor.cli.output import table_lines

CONFIG = """
[[streams]]
name = "gas"
topic = "gas"
[streams.schema]
dimension = 2
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration with one stream."""
    path = tmp_path / "narrows.toml"
    path.write_text(CONFIG)
    return path


def narrows(config: Path, *words: str) -> Result:
    """Run a command."""
    return CliRunner().invoke(app, ["--config", str(config), *words])


def test_jobs_run_says_why_and_exits_1_when_it_was_skipped(config: Path) -> None:
    """What was asked for did not happen."""
    result = narrows(config, "jobs", "run", "recalibrate")

    assert result.exit_code == 1
    assert result.stdout.startswith("recalibrate of gas skipped: gas has no champion yet")


def test_jobs_run_exits_0_when_it_succeeded(config: Path) -> None:
    """With --json a program reads the status."""
    result = narrows(config, "jobs", "run", "prune", "--json")

    assert result.exit_code == 0
    assert json.loads(result.stdout)["status"] == "succeeded"


def test_jobs_run_exits_2_when_there_is_no_such_job(config: Path) -> None:
    """Wrong use, answered with what there is."""
    result = narrows(config, "jobs", "run", "retrian")

    assert result.exit_code == 2
    assert "There is: recalibrate, retrain, prune" in result.stderr


def test_jobs_list_shows_jobs_and_runs(config: Path) -> None:
    """Each configured job with its last run and next time; then the newest runs."""
    narrows(config, "jobs", "run", "prune")

    listed = json.loads(narrows(config, "jobs", "list", "--json").stdout)

    assert [job["job"] for job in listed["jobs"]] == ["recalibrate", "retrain", "prune"]
    assert [job["last_run"] and job["last_run"]["status"] for job in listed["jobs"]] == [None, None, "succeeded"]
    assert all(job["next_due"] for job in listed["jobs"])
    assert [(run["job"], run["status"]) for run in listed["runs"]] == [("prune", "succeeded")]
    assert "nothing to delete" in narrows(config, "jobs", "list").stdout


def test_jobs_tables_fit_80_columns() -> None:
    """With the longest words that are likely."""
    jobs = [["recalibrate", "gas-sensor-array", "cron: 0 3 * * *", "succeeded, 59 min ago", "in 59 min"]]
    runs = [["123456", "recalibrate", "gas-sensor-array", "59 min ago", "succeeded", "a, " * 99]]

    lines = [*table_lines(_JOBS, jobs, width=80), *table_lines(_RUNS, runs, width=80)]

    assert max(map(len, lines)) <= 80
    assert not any(line.startswith("job:") for line in lines)


@pytest.mark.parametrize("words", [["schedule"], ["jobs", "list"], ["jobs", "run"]])
def test_help_has_an_example(words: list[str], config: Path) -> None:
    """Every command shows how it is used."""
    assert f"Example: narrows {' '.join(words)}" in narrows(config, *words, "--help").stdout
