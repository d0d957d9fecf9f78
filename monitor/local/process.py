"""One server process: started in a group of its own, found again by another command, ended for certain."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from monitor.local.errors import MissingExtraError
from monitor.local.unprivileged import group_of

try:
    import psutil
except ImportError as error:
    raise MissingExtraError("psutil") from error

GUARD = Path(__file__).with_name("guard.py")
POLL_S = 0.02
KILL_TIMEOUT_S = 10.0  # the kernel needs milliseconds; more means an uninterruptible disk wait
START_TOLERANCE_S = 2.0  # process start times are derived from the boot time and move with clock corrections


class ServerProcess:
    """A running server, ours or one that an earlier command left behind.

    A process is known by its id and its start time, so an id that the system has given to somebody else since is
    never mistaken for the server.
    """

    def __init__(self, pid: int, *, started_at: float, child: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        self.started_at = started_at
        self._child = child
        self._guard: subprocess.Popen[bytes] | None = None

    @classmethod
    def spawn(
        cls,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str],
        owned: bool,
        user: str | None = None,
        guard_signal: signal.Signals = signal.SIGKILL,
    ) -> Self:
        """Start a server.

        Args:
            command: Program and arguments.
            log: File that takes standard output and error; appended to.
            environment: The server's whole environment.
            owned: Whether it dies with this process; otherwise it stays until it is stopped.
            user: Name of the system user to run as; this one's by default.
            guard_signal: Signal that ends it when its owner has died.

        Returns:
            The process, running or already failed.
        """
        with log.open("ab") as out:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd="/",
                start_new_session=True,
                **as_user(user),
            )
        process = cls(child.pid, started_at=psutil.Process(child.pid).create_time(), child=child)
        if owned:
            process._guard_with(guard_signal)
        return process

    @property
    def alive(self) -> bool:
        """Whether the server still runs."""
        if self._child is not None:
            return self._child.poll() is None
        try:
            found = psutil.Process(self.pid)
            return abs(float(found.create_time()) - self.started_at) < START_TOLERANCE_S and _runs(found)
        except psutil.NoSuchProcess:
            return False

    def release(self) -> None:
        """Let the server outlive this process."""
        if self._child is not None:
            self._child.returncode = (
                0  # Popen warns about a running child when it is collected; this one is meant to run
            )
            self._child = None

    def stop(self, signal_number: signal.Signals, *, timeout_s: float) -> None:
        """Ask the server to end; after ``timeout_s`` seconds, kill it."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal_number)
            _wait_while(lambda: self.alive, timeout_s=timeout_s)
        self.kill()

    def kill(self) -> None:
        """End the server and all its children at once (SIGKILL), and wait until they are gone."""
        if self.alive:
            family = _family(self.pid)
            for member in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.kill()
            _wait_while(lambda: self.alive or any(map(_runs, family)), timeout_s=KILL_TIMEOUT_S)
        self._dismiss_guard()

    def _guard_with(self, signal_number: signal.Signals) -> None:
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", str(GUARD), str(self.pid), str(int(signal_number))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _dismiss_guard(self) -> None:
        """Remove the guard, before its pipe closes: the id it would signal may belong to somebody else by now."""
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.kill()
            self._guard.wait()
            self._guard.stdin.close()
        self._guard = None


def _wait_while(condition: Callable[[], bool], *, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while condition() and time.monotonic() < deadline:
        time.sleep(POLL_S)


def _runs(process: psutil.Process) -> bool:
    """Whether a process still does anything; one that has ended stays a zombie until its parent asks for it."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _family(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def as_user(user: str | None) -> dict[str, Any]:
    """Arguments of `subprocess` that change to a user; none for ourselves."""
    return {} if user is None else {"user": user, "group": group_of(user), "extra_groups": []}


def command_of(pid: int) -> str:
    """Command line of a process, or an empty string where there is none."""
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return ""
