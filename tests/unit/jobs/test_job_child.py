"""A child process ends in every case, and says why."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil
import pytest

from monitor.clock import SystemClock
from monitor.jobs.base import JobCancelled
from monitor.jobs.child import ChildExit, ChildTimeout, run_child
from tests.deployment import eventually, is_gone

FOREVER = "import os, sys, time; print(os.getpid(), flush=True); time.sleep(600)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + FOREVER


class Wish:
    """A cancellation that a test can set."""

    reason: str | None = None


def run(program: str, *, lines: list[str], wish: Wish | None = None, time_limit_s: float = 60.0) -> ChildExit:
    """Run a program; its first line grants the wish."""

    def on_line(line: str) -> None:
        lines.append(line.strip())
        if wish is not None:
            wish.reason = "asked to"

    return run_child(
        [sys.executable, "-c", program],
        on_line=on_line, cancellation=wish or Wish(), clock=SystemClock(), time_limit_s=time_limit_s,
    )  # fmt: skip


def test_run_child_brings_lines_status_and_the_end_of_stderr() -> None:
    """All that a caller needs to say what happened."""
    lines: list[str] = []

    ended = run("import sys; print('one'); print('two'); sys.exit('no rows')", lines=lines)

    assert lines == ["one", "two"]
    assert ended == ChildExit(1, "no rows\n")


@pytest.mark.parametrize("program", [FOREVER, pytest.param(STUBBORN, marks=pytest.mark.slow)])
def test_run_child_ends_the_child_when_asked(program: str) -> None:
    """By SIGTERM, and by SIGKILL when that does not help."""
    lines: list[str] = []

    with pytest.raises(JobCancelled, match="asked to"):
        run(program, lines=lines, wish=Wish())

    eventually(lambda: is_gone(int(lines[0])), timeout_s=10, what="its end")


def test_run_child_says_which_signal_ended_the_child() -> None:
    """As a shell does; the kernel's out-of-memory killer is 137."""
    assert run("import os; os.kill(os.getpid(), 9)", lines=[]).status == 137


def test_run_child_ends_the_child_when_it_takes_too_long() -> None:
    """The limit is the caller's."""
    with pytest.raises(ChildTimeout, match="longer than 0 s"):
        run(FOREVER, lines=[], time_limit_s=0.3)


def test_run_child_ends_the_child_when_a_line_is_refused() -> None:
    """An exception of the caller leaves nothing behind."""
    pids: list[int] = []

    def refuse(line: str) -> None:
        pids.append(int(line))
        raise ValueError("refused")

    with pytest.raises(ValueError, match="refused"):
        run_child(
            [sys.executable, "-c", FOREVER],
            on_line=refuse, cancellation=Wish(), clock=SystemClock(), time_limit_s=60,
        )  # fmt: skip

    eventually(lambda: is_gone(pids[0]), timeout_s=10, what="its end")


def test_run_child_does_not_block_when_the_child_says_much() -> None:
    """More than a pipe holds, on both streams."""
    lines: list[str] = []

    ended = run("import sys; [print('x' * 99) for _ in range(5000)]; print('y' * 200000, file=sys.stderr)", lines=lines)

    assert (len(lines), ended.status) == (5000, 0)


def test_child_dies_when_its_parent_is_killed(tmp_path: Path) -> None:
    """No orphan goes on training."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys\n"
        "from monitor.clock import SystemClock\n"
        "from monitor.jobs.child import run_child\n"
        "class Wish:\n    reason = None\n"
        f"run_child([sys.executable, '-c', {FOREVER!r}], on_line=lambda line: print(line, flush=True),\n"
        "          cancellation=Wish(), clock=SystemClock(), time_limit_s=60)\n"
    )
    parent = psutil.Popen([sys.executable, str(script)], stdout=-1, env={**os.environ, "PYTHONPATH": str(Path.cwd())})
    orphan = psutil.Process(int(parent.stdout.readline()))

    parent.kill()
    parent.wait()
    parent.stdout.close()

    gone, alive = psutil.wait_procs([orphan], timeout=5)
    assert gone or alive[0].status() == psutil.STATUS_ZOMBIE
