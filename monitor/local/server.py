"""What the local broker and the local database have in common: a folder, a port, a life. Not for production use."""

import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from monitor.local.errors import PortTakenError, StartError
from monitor.local.process import POLL_S, ServerProcess
from monitor.local.state import ServerState, choose_port, is_free, load_state, locked, require_free

Progress = Callable[[str], None]
STOP_TIMEOUT_S = 20.0
PORT_RACES = 3  # a port found free can be taken before the server binds it; three in a row is no coincidence


def silent(_message: str) -> None:
    """Progress that nobody reads."""


class LocalServer(ABC):
    """A server on loopback whose data lie in one folder.

    Safe to use from several processes: a file lock in the folder lets one start or stop it at a time, and whoever
    comes second finds it running. Methods block; none is meant for an event loop.
    """

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]
    guard_signal: ClassVar[signal.Signals]

    def __init__(
        self, folder: Path, *, options: dict[str, str], owned: bool, timeout_s: float, progress: Progress
    ) -> None:
        self.folder = folder.resolve()
        self.port = 0
        self._options = options
        self._owned = owned
        self._timeout_s = timeout_s
        self._progress = progress
        self._process: ServerProcess | None = None
        self._started_here = False

    @classmethod
    @abstractmethod
    def _of(cls, folder: Path, *, state: ServerState) -> Self:
        """A handle, attached, for the server that a state describes."""

    @abstractmethod
    def _prepare(self) -> None:
        """Make the data folder, once."""

    @abstractmethod
    def _launch(self) -> ServerProcess:
        """Start the process on ``self.port``."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether the server on ``self.port`` serves requests."""

    @classmethod
    def find(cls, folder: Path) -> Self | None:
        """The server that runs in a folder, whoever started it, or None."""
        state = load_state(folder)
        if state is None:
            return None
        server = cls._of(folder, state=state)
        return server if server.running else None

    @property
    def log(self) -> Path:
        """The server's own log."""
        return self.folder / "server.log"

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.alive

    @property
    def pid(self) -> int | None:
        """Process id while it runs, else None."""
        return self._process.pid if self._process is not None and self._process.alive else None

    @property
    def answers(self) -> bool:
        """Whether it lives and serves requests."""
        return self.running and self._answers()

    def stop(self) -> None:
        """Stop in order; harmless when it does not run."""
        with locked(self.folder):
            if self._process is not None:
                self._process.stop(self.stop_signal, timeout_s=STOP_TIMEOUT_S)

    def kill(self) -> None:
        """Kill it (SIGKILL) with all its children; the data stay as they are at this instant."""
        if self._process is not None:
            self._process.kill()

    def restart(self) -> None:
        """Stop it if it runs, and start it on the same port and data.

        Raises:
            PortTakenError: Another program took the port meanwhile.
            StartError: It ended or did not answer in time.
        """
        self.stop()
        with locked(self.folder):
            self._start(port=self.port)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop what this handle started; a server that was found running is left alone."""
        if self._started_here:
            self.stop()

    def _start_or_attach(self, *, port: int | None) -> None:
        with locked(self.folder):
            state = load_state(self.folder)
            if state is not None and self._attach(state):
                self._wait_until_it_answers()
                return
            self._prepare()
            if port is not None:
                self._start(port=port)
            else:
                self._start_on_any(preferred=state.port if state is not None else None)

    def _start_on_any(self, *, preferred: int | None) -> None:
        for attempt in range(1, PORT_RACES + 1):
            try:
                self._start(port=choose_port(preferred=preferred))
            except (PortTakenError, StartError):
                if attempt == PORT_RACES or is_free(self.port):
                    raise
            else:
                return

    def _start(self, *, port: int) -> None:
        self.port = require_free(port)
        self.log.unlink(missing_ok=True)
        self._process = process = self._launch()
        self._started_here = True
        ServerState(pid=process.pid, started_at=process.started_at, port=port, options=self._options).save(self.folder)
        try:
            self._wait_until_it_answers()
        except BaseException:  # also Ctrl-C: nothing half-started stays behind
            process.kill()
            raise
        if not self._owned:
            process.release()

    def _attach(self, state: ServerState) -> bool:
        self.port = state.port
        self._options = dict(state.options)
        self._process = ServerProcess(state.pid, started_at=state.started_at)
        return self._process.alive

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + self._timeout_s
        while not self._answers():
            if not self.running:
                raise StartError(f"{self.name} ended while it started", log=self.log)
            if time.monotonic() > deadline:
                raise StartError(f"{self.name} did not answer within {self._timeout_s:.0f} s", log=self.log)
            time.sleep(POLL_S)
