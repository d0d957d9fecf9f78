"""The demo as a person runs it: it tells its story, catches the digit, and what it prints can be typed."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

pytestmark = [pytest.mark.acceptance, pytest.mark.kafka, pytest.mark.slow]


def test_demo_ends_by_itself_with_the_digit_caught(tmp_path: Path, bootstrap_servers: str) -> None:
    """Exit 0, a summary with recall, and rows in the database that it names."""
    done = subprocess.run(
        [sys.executable, "-m", "monitor.cli", "demo", "--rate", "150", "--folder", str(tmp_path / "demo")],
        env=os.environ | {"KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers, "COLUMNS": "100"},
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "now a digit it has never seen starts to arrive: 4" in done.stdout
    assert "lag at the end 0" in done.stdout
    recall = re.search(r"recall (\d+)%", done.stdout)
    assert recall is not None
    assert int(recall[1]) >= 40
    assert "█" in done.stdout, "no digit was drawn"
    with closing(sqlite3.connect(tmp_path / "demo" / "narrows.db")) as database:
        (n_anomalies,) = database.execute("SELECT count(*) FROM anomalies").fetchone()
    assert n_anomalies > 50
    command = next(line for line in done.stdout.splitlines() if line.endswith("alerts list")).split()
    listed = subprocess.run(
        [sys.executable, "-m", "monitor.cli", *command[1:]], capture_output=True, text=True, check=True, timeout=60
    )
    assert "digit-" in listed.stdout


def test_demo_refuses_a_folder_that_is_not_its_own(tmp_path: Path) -> None:
    """Nothing of somebody else is deleted."""
    (tmp_path / "thesis.txt").write_text("years of work")
    done = subprocess.run(
        [sys.executable, "-m", "monitor.cli", "demo", "--folder", str(tmp_path)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "not a demo's folder" in done.stderr
    assert (tmp_path / "thesis.txt").exists()
