"""Real servers for tests: started when the first test asks, stopped at the end, never skipped and never mocked.

KAFKA_BOOTSTRAP_SERVERS and a PostgreSQL URL in NARROWS_STORE__URL win: then nothing is started, the tests run there.
"""

import logging
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from monitor.local import KafkaServer, PostgresServer, external_bootstrap_servers, external_store_url
from monitor.local.postgres_server import create_database, drop_database
from monitor.local.topics import create_topic

# Before torch is imported, here or in a process of a test: with more threads than free cores they wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """A test that runs a command in this process sets up logging; the next one must not hear of it."""
    names = ("", "monitor", "models", "kafka")
    before = {name: logging.getLogger(name).level for name in names}
    handlers = list(logging.getLogger().handlers)
    yield
    logging.getLogger().handlers[:] = handlers
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


class Broker(Protocol):
    """Where a Kafka cluster is."""

    @property
    def bootstrap_servers(self) -> str:
        """Address for clients, ``host:port``."""


class Database(Protocol):
    """Where a PostgreSQL server is."""

    @property
    def url(self) -> str:
        """SQLAlchemy URL of a database that may make others."""


class MakeTopic(Protocol):
    """Makes a fresh topic."""

    def __call__(self, partitions: int = 1, **configs: str) -> str:
        """Make a topic; settings as Kafka names them, with ``_`` for ``.``; return its unique name."""


@dataclass(frozen=True, slots=True)
class ExternalBroker:
    """The broker that the environment names; tests may not stop it."""

    bootstrap_servers: str


@dataclass(frozen=True, slots=True)
class ExternalDatabase:
    """The PostgreSQL server that the environment names; tests may not stop it."""

    url: str


# What tests may rely on: a topic exists only if it was made, so "does not exist yet" can be tested.
TEST_PROPERTIES = {"auto.create.topics.enable": "false"}
TEST_SETTINGS = {"fsync": "off"}  # a killed server loses nothing by it, only a machine that loses power does


@pytest.fixture(scope="session")
def kafka_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """The broker of the whole session; a test that stops or kills one takes `private_kafka_server`."""
    external = external_bootstrap_servers(os.environ)
    if external is not None:
        yield ExternalBroker(external)
        return
    with KafkaServer.start(tmp_path_factory.mktemp("kafka"), properties=TEST_PROPERTIES) as server:
        yield server


@pytest.fixture(scope="session")
def bootstrap_servers(kafka_server: Broker) -> str:
    """Address of the session's broker, ``host:port``."""
    return kafka_server.bootstrap_servers


@pytest.fixture
def private_kafka_server(tmp_path: Path) -> Iterator[KafkaServer]:
    """A broker for one test, which may kill and restart it (about three seconds)."""
    with KafkaServer.start(tmp_path / "kafka", properties=TEST_PROPERTIES) as server:
        yield server


@pytest.fixture
def make_topic(bootstrap_servers: str) -> MakeTopic:
    """Makes fresh topics on the session's broker: ``make_topic(partitions=3, retention_ms="1000")``."""

    def make(partitions: int = 1, **configs: str) -> str:
        settings = {key.replace("_", "."): value for key, value in configs.items()}
        name = f"narrows-test-{uuid.uuid4().hex[:12]}"
        return create_topic(bootstrap_servers, name=name, partitions=partitions, configs=settings)

    return make


@pytest.fixture
def topic(make_topic: MakeTopic) -> str:
    """A fresh topic of one partition on the session's broker."""
    return make_topic()


@contextmanager
def _reachable_folder() -> Iterator[Path]:
    """Not below pytest's own folder: under root the server is another user, and every new pytest closes that again."""
    with tempfile.TemporaryDirectory(prefix="narrows-postgres-") as folder:
        yield Path(folder) / "server"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Database]:
    """The PostgreSQL server of the whole session; a test that kills one takes `private_postgres_server`."""
    external = external_store_url(os.environ)
    if external is not None and external.startswith("postgresql"):
        yield ExternalDatabase(external)
        return
    with _reachable_folder() as folder, PostgresServer.start(folder, settings=TEST_SETTINGS) as server:
        yield server


@pytest.fixture
def private_postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server for one test, which may kill and restart it (about one second)."""
    with _reachable_folder() as folder, PostgresServer.start(folder, settings=TEST_SETTINGS) as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: Database) -> Iterator[str]:
    """SQLAlchemy URL of a fresh, empty database, dropped after the test."""
    name = f"narrows_test_{uuid.uuid4().hex[:12]}"
    yield create_database(postgres_server.url, name=name)
    drop_database(postgres_server.url, name=name)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'narrows.db'}"
    return str(request.getfixturevalue("postgres_url"))
