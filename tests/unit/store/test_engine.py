"""Which errors are outages, and what their messages tell."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from monitor.errors import StoreUnavailable
from monitor.store import engine
from monitor.store.engine import Database, is_outage


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """An empty SQLite file."""
    opened = Database(f"sqlite:///{tmp_path / 'a.db'}")
    yield opened
    opened.close()


def wrapped(error: Exception, *, lost: bool = False) -> exc.DBAPIError:
    """The driver's error as SQLAlchemy passes it on."""
    library = sqlite3 if isinstance(error, sqlite3.Error) else psycopg
    made = exc.DBAPIError.instance("SELECT 1", {}, error, library.Error, connection_invalidated=lost)
    assert isinstance(made, exc.DBAPIError)
    return made


def sqlite_error(kind: type[sqlite3.Error], code: int) -> sqlite3.Error:
    """An error as SQLite raises it."""
    error = kind("said so")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    "error",
    [
        psycopg.OperationalError("connection refused"),
        psycopg.InterfaceError("the connection is closed"),
        psycopg.errors.AdminShutdown("terminating connection"),
        psycopg.errors.CannotConnectNow("the database system is starting up"),
        psycopg.errors.TooManyConnections("sorry"),
        psycopg.errors.DiskFull("no space left"),
        psycopg.errors.DeadlockDetected("deadlock"),
        psycopg.errors.SerializationFailure("serialise"),
        psycopg.errors.LockNotAvailable("lock timeout"),
        psycopg.errors.QueryCanceled("statement timeout"),
        psycopg.errors.ReadOnlySqlTransaction("cannot execute UPDATE in a read-only transaction"),
        sqlite_error(sqlite3.OperationalError, sqlite3.SQLITE_BUSY),
        sqlite_error(sqlite3.OperationalError, sqlite3.SQLITE_BUSY_SNAPSHOT),
        sqlite_error(sqlite3.OperationalError, sqlite3.SQLITE_IOERR_FSYNC),
        sqlite_error(sqlite3.OperationalError, sqlite3.SQLITE_FULL),
        sqlite_error(sqlite3.OperationalError, sqlite3.SQLITE_CANTOPEN),
        sqlite_error(sqlite3.OperationalError, sqlite3.SQLITE_READONLY_DBMOVED),
    ],
    ids=lambda error: f"{type(error).__name__}-{getattr(error, 'sqlite_errorcode', '')}",
)
def test_is_outage_when_the_database_is_away(error: Exception) -> None:
    """Back off and try again."""
    assert is_outage(wrapped(error))


@pytest.mark.parametrize(
    "error",
    [
        psycopg.errors.UndefinedTable("no such table"),
        psycopg.errors.UniqueViolation("twice"),
        psycopg.errors.SyntaxError("what?"),
        psycopg.errors.InsufficientPrivilege("no"),
        psycopg.DataError("NUL"),
        sqlite_error(sqlite3.OperationalError, sqlite3.SQLITE_ERROR),
        sqlite_error(sqlite3.IntegrityError, sqlite3.SQLITE_CONSTRAINT_UNIQUE),
        sqlite_error(sqlite3.DatabaseError, sqlite3.SQLITE_CORRUPT),
    ],
    ids=lambda error: f"{type(error).__name__}-{getattr(error, 'sqlite_errorcode', '')}",
)
def test_is_no_outage_when_the_program_is_wrong(error: Exception) -> None:
    """Trying again would hide it."""
    assert not is_outage(wrapped(error))


def test_is_outage_when_the_connection_was_lost_or_the_pool_is_empty() -> None:
    """Whatever the driver calls it."""
    assert is_outage(wrapped(psycopg.DatabaseError("?"), lost=True))
    assert is_outage(exc.TimeoutError("QueuePool limit"))


def test_outage_names_the_database_without_its_password() -> None:
    """Neither in the message nor in the chain of causes."""
    database = Database("postgresql://narrows:s3cret-word@127.0.0.1:1/alerts")
    with pytest.raises(StoreUnavailable) as caught, database.read():
        pass
    assert "narrows:***@127.0.0.1:1/alerts" in str(caught.value)
    error: BaseException | None = caught.value
    while error is not None:
        assert "s3cret-word" not in f"{error} {error!r}"
        error = error.__cause__
    assert type(caught.value.__cause__).__name__ == "OperationalError"


def test_write_is_unavailable_when_another_process_holds_the_lock(
    database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """After a bounded wait."""
    monkeypatch.setattr(engine, "_BUSY_TIMEOUT_S", 0.01)
    impatient = Database(f"sqlite:///{tmp_path / 'a.db'}")
    try:
        with database.write(), pytest.raises(StoreUnavailable, match="locked"), impatient.write():
            pass
        with impatient.write() as connection:
            connection.execute(sa.text("CREATE TABLE t (x INTEGER)"))
    finally:
        impatient.close()


def test_read_goes_on_when_another_process_writes(database: Database) -> None:
    """Write-ahead log: analysts never wait for the worker, nor it for them."""
    with database.write() as connection:
        connection.execute(sa.text("CREATE TABLE t (x INTEGER)"))
    with database.write() as writer, database.read() as reader:
        writer.execute(sa.text("INSERT INTO t VALUES (1)"))
        assert reader.execute(sa.text("SELECT count(*) FROM t")).scalar_one() == 0


def test_write_rolls_back_when_the_block_raises(database: Database) -> None:
    """Tables included: SQLite's own driver would have committed before."""

    def fail(connection: sa.Connection) -> None:
        connection.execute(sa.text("CREATE TABLE t (x INTEGER)"))
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        database.transact(fail)
    with database.read() as connection:
        assert sa.inspect(connection).get_table_names() == []


@pytest.mark.parametrize(
    ("pragma", "value"), [("journal_mode", "wal"), ("synchronous", 1), ("foreign_keys", 1), ("busy_timeout", 5000)]
)
def test_sqlite_connection_is_prepared(database: Database, pragma: str, value: object) -> None:
    """Each connection of the pool."""
    for _ in range(2):
        with database.read() as connection:
            assert connection.execute(sa.text(f"PRAGMA {pragma}")).scalar_one() == value
