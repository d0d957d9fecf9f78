"""The broker and the database that `narrows dev` keeps in one folder; what is where, without any printing."""

import contextlib
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from monitor.local.kafka_server import KafkaServer
from monitor.local.postgres_server import PostgresServer
from monitor.local.server import LocalServer, Progress
from monitor.local.state import load_state

BOOTSTRAP_VARIABLE = "KAFKA_BOOTSTRAP_SERVERS"
STORE_VARIABLE = "NARROWS_STORE__URL"
DATABASE = "narrows"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Where a broker or a database is.

    Attributes:
        variable: Environment variable that names one.
        address: For clients, without a password; None where there is none.
        source: ``environment`` (not ours, never started or stopped), ``local`` or ``none``.
        pid: Process id where we started it and it runs.
        answers: Whether it serves requests; None where it is not ours to ask.
    """

    variable: str
    source: str
    address: str | None = None
    pid: int | None = None
    answers: bool | None = None


class DevServers:
    """The servers of one folder."""

    def __init__(self, folder: Path, *, environment: Mapping[str, str], progress: Progress) -> None:
        self.folder = folder
        self._environment = environment
        self._progress = progress

    def kafka_up(self) -> Service:
        """Start the broker, unless it runs or the environment names one; it outlives this process."""
        external = self._external_kafka()
        if external is not None:
            return external
        self._make_folder()
        return _kafka(KafkaServer.start(self._kafka_folder, owned=False, progress=self._progress))

    def postgres_up(self) -> Service:
        """Start the database, unless it runs or the environment names one; it outlives this process."""
        external = self._external_postgres()
        if external is not None:
            return external
        self._make_folder()
        server = PostgresServer.start(self._postgres_folder, owned=False, progress=self._progress)
        server.ensure_database(DATABASE)
        return _postgres(server)

    def kafka_status(self) -> Service:
        """Where the broker is now."""
        server = KafkaServer.find(self._kafka_folder)
        ours = _none(BOOTSTRAP_VARIABLE) if server is None else _kafka(server)
        return self._external_kafka() or ours

    def postgres_status(self) -> Service:
        """Where the database is now."""
        server = PostgresServer.find(self._postgres_folder)
        ours = _none(STORE_VARIABLE) if server is None else _postgres(server)
        return self._external_postgres() or ours

    def down(self) -> list[str]:
        """Stop what runs in the folder.

        Returns:
            Names of the servers that were stopped.
        """
        found: list[LocalServer | None] = [
            KafkaServer.find(self._kafka_folder),
            PostgresServer.find(self._postgres_folder),
        ]
        running = [server for server in found if server is not None]
        for server in running:
            self._progress(f"Stopping {server.name} ...")
            server.stop()
        return [server.name for server in running]

    def delete(self) -> None:
        """Remove the data of servers that are down."""
        shutil.rmtree(self._kafka_folder, ignore_errors=True)
        shutil.rmtree(self._postgres_folder, ignore_errors=True)
        (self.folder / ".gitignore").unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty: something else lives there
            self.folder.rmdir()

    @property
    def _kafka_folder(self) -> Path:
        return self.folder / "kafka"

    @property
    def _postgres_folder(self) -> Path:
        return self.folder / "postgres"

    def _make_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / ".gitignore").write_text("*\n", encoding="utf-8")

    def _external_kafka(self) -> Service | None:
        return self._external(BOOTSTRAP_VARIABLE, ours=self._kafka_folder)

    def _external_postgres(self) -> Service | None:
        return self._external(STORE_VARIABLE, ours=self._postgres_folder)

    def _external(self, variable: str, *, ours: Path) -> Service | None:
        """What the environment names, unless it is the line that an earlier `dev up` printed."""
        address = self._environment.get(variable)
        state = load_state(ours)
        if not address or (state is not None and f"127.0.0.1:{state.port}" in address):
            return None
        return Service(variable=variable, source="environment", address=without_password(address))


def without_password(address: str) -> str:
    """An address or URL that may be printed."""
    return re.sub(r"//([^:/@]*):[^@]*@", r"//\1:***@", address)


def _none(variable: str) -> Service:
    return Service(variable=variable, source="none")


def _kafka(server: KafkaServer) -> Service:
    return _ours(server, variable=BOOTSTRAP_VARIABLE, address=server.bootstrap_servers)


def _postgres(server: PostgresServer) -> Service:
    return _ours(server, variable=STORE_VARIABLE, address=server.url_of(DATABASE))


def _ours(server: LocalServer, *, variable: str, address: str) -> Service:
    return Service(variable=variable, source="local", address=address, pid=server.pid, answers=server.answers)
