"""One child process: its lines as they come, a time limit, and a certain end. It knows nothing of training.

It ends with us in every case: when we are asked to stop (SIGTERM to its process group, then SIGKILL), and when we are
killed ourselves, for which ``supervise.py`` stands between us and the command. (PR_SET_PDEATHSIG is Linux only and
needs code between fork and exec, which may deadlock in a program with threads.)
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from monitor.jobs.base import Cancellation, JobCancelled
from monitor.ports import Clock

_SUPERVISE = Path(__file__).with_name("supervise.py")
#: How soon a wish to stop is seen.
_POLL_S = 0.2
#: From SIGTERM to SIGKILL; leaves most of a process's 10 s to the rest of its shutdown.
_GRACE_S = 3.0
#: Lines of the child's stderr that are kept for the message.
_TAIL_LINES = 20


class ChildTimeout(Exception):  # noqa: N818 - the limit is the caller's choice
    """The child ran past its time limit and was killed."""


@dataclass(frozen=True, slots=True)
class ChildExit:
    """How the child ended: its status (128 + n: killed by signal n) and the end of its stderr."""

    status: int
    stderr_tail: str


def run_child(
    command: Sequence[str],
    *,
    on_line: Callable[[str], None],
    cancellation: Cancellation,
    clock: Clock,
    time_limit_s: float,
) -> ChildExit:
    """Run a command to its end.

    Args:
        command: Program and arguments.
        on_line: Called with each line of its stdout, in this thread; may raise, which ends the child.
        cancellation: Asked several times a second.
        clock: For the time limit.
        time_limit_s: Longest run.

    Returns:
        How it ended by itself.

    Raises:
        JobCancelled: It was ended because somebody asked.
        ChildTimeout: It ran too long.
    """
    child = subprocess.Popen(  # noqa: S603 - the caller's command, no shell
        [sys.executable, "-I", "-S", str(_SUPERVISE), *command],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
        errors="replace", start_new_session=True,
    )  # fmt: skip
    with child, _ended(child), _reading(child) as (lines, tail):
        deadline = clock.monotonic() + time_limit_s
        while (line := _next(lines)) is not None:
            if line:
                on_line(line)
            if reason := cancellation.reason:
                raise JobCancelled(reason)
            if clock.monotonic() > deadline:
                raise ChildTimeout(f"training took longer than {time_limit_s:.0f} s and was ended")
        status = child.wait()
    return ChildExit(status, "".join(tail))


@contextlib.contextmanager
def _reading(child: subprocess.Popen[str]) -> Iterator[tuple[queue.SimpleQueue[str | None], deque[str]]]:
    """Threads that read both pipes; inside, so that a full pipe never blocks the child."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    if child.stdout is None or child.stderr is None:
        raise ValueError("the child was started without pipes")

    def read_lines(pipe: IO[str]) -> None:
        for line in pipe:
            lines.put(line)
        lines.put(None)

    threads = [
        threading.Thread(target=read_lines, args=(child.stdout,), name="child stdout", daemon=True),
        threading.Thread(target=tail.extend, args=(child.stderr,), name="child stderr", daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield lines, tail
    finally:
        _end(child)
        for thread in threads:
            thread.join()


def _next(lines: queue.SimpleQueue[str | None]) -> str | None:
    """The next line; empty when none came in time, None at the end."""
    try:
        return lines.get(timeout=_POLL_S)
    except queue.Empty:
        return ""


@contextlib.contextmanager
def _ended(child: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        _end(child)


def _end(child: subprocess.Popen[str]) -> None:
    """End the whole group: ask, wait, insist."""
    if child.poll() is not None:
        return
    _signal(child, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(_GRACE_S)
    _signal(child, signal.SIGKILL)
    child.wait()


def _signal(child: subprocess.Popen[str], number: signal.Signals) -> None:
    if child.returncode is None:  # reaped already: its id may belong to somebody else
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
