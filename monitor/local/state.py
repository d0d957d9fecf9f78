"""What the folder of a local server remembers between commands: who runs there, on which port, how it was started."""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from monitor.local.errors import LocalError, PortTakenError

LOOPBACK = "127.0.0.1"
STATE_FILE = "server.json"
LOCK_TIMEOUT_S = 120.0  # a first start downloads the broker while it holds the lock
LOCK_POLL_S = 0.05

# Below the ephemeral ranges of Linux (32768) and macOS (49152). A client that keeps reconnecting to a stopped server
# on an ephemeral port can be given that very port as its own, connect to itself, and so block the restart.
FIRST_PORT, LAST_PORT = 20_000, 29_999
PORT_ATTEMPTS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerState:
    """What is needed to find a server again, or to start it again on its port."""

    pid: int
    started_at: float
    port: int
    options: dict[str, str] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write the state in one step, so that a reader never sees half of it."""
        partial = folder / f"{STATE_FILE}.partial"
        partial.write_text(json.dumps(asdict(self)), encoding="utf-8")
        partial.replace(folder / STATE_FILE)


def load_state(folder: Path) -> ServerState | None:
    """State left in a folder, or None where there is none or an interrupted command left it unreadable."""
    try:
        return ServerState(**json.loads((folder / STATE_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


@contextlib.contextmanager
def locked(folder: Path, *, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
    """Keep other commands out of a folder; the kernel drops the lock when its holder dies.

    Args:
        folder: Made if it does not exist.
        timeout_s: How long to wait for another command.

    Raises:
        LocalError: Another command held the lock all the time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _wait_for_lock(descriptor, folder=folder, timeout_s=timeout_s)
        yield
    finally:
        os.close(descriptor)


def _wait_for_lock(descriptor: int, *, folder: Path, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise LocalError(
                    f"another command has held {folder} for {timeout_s:.0f} s; wait for it or end it"
                ) from None
        time.sleep(LOCK_POLL_S)


def build_once(target: Path, *, build: Callable[[Path], None]) -> None:
    """Make a folder in one step: it is complete or it is not there, even if the builder is killed.

    Args:
        target: Folder to make; nothing happens if it exists.
        build: Called with the path of a folder beside ``target`` that does not exist; must make and fill it.
    """
    if target.exists():
        return
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    build(partial)
    partial.replace(target)


def is_free(port: int) -> bool:
    """Whether a server could listen on a loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def require_free(port: int) -> int:
    """Return the port, or raise `PortTakenError`."""
    if not is_free(port):
        raise PortTakenError(port)
    return port


def choose_port(*, preferred: int | None = None) -> int:
    """A free loopback port: the preferred one if it is free, else one at random outside the ephemeral range.

    Raises:
        LocalError: No free port was met.
    """
    if preferred is not None and is_free(preferred):
        return preferred
    for _ in range(PORT_ATTEMPTS):
        port = FIRST_PORT + secrets.randbelow(LAST_PORT - FIRST_PORT + 1)
        if is_free(port):
            return port
    raise LocalError(f"no free port between {FIRST_PORT} and {LAST_PORT} on {LOOPBACK}")
