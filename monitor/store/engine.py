"""Connections: engines for SQLite and PostgreSQL, transactions, and the one place where outages get their name."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.engine import URL, Connection, Engine, make_url

from monitor.errors import ConfigError, StoreUnavailable
from monitor.store.column_types import dump_json

T = TypeVar("T")

#: Seconds that a SQLite writer waits for another one; below the ten seconds that a worker has to end in.
_BUSY_TIMEOUT_S = 5.0
#: Libpq settings. Without the TCP ones, a connection whose other end vanished would hang for many minutes.
_POSTGRES_ARGS: dict[str, Any] = {
    "connect_timeout": 5,
    "application_name": "narrows",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
#: Server settings of each session, milliseconds. A transaction of a stopped process (SIGSTOP, a paused machine) would
#: otherwise keep its row locks, and with them the partition, for ever.
_POSTGRES_OPTIONS = (
    "-c timezone=UTC -c lock_timeout=5000 -c statement_timeout=30000 -c idle_in_transaction_session_timeout=30000"
)
#: SQLite: primary result codes that say "not now", as against "not so".
_SQLITE_OUTAGES = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)
#: PostgreSQL: SQLSTATE of "this server is a standby now" (failover), which the driver does not call operational.
_READ_ONLY = "25006"
#: PostgreSQL: serialisation failure and deadlock; the same transaction may succeed at once.
_AGAIN = frozenset({"40001", "40P01"})
#: Attempts of one transaction before a deadlock is passed on as an outage.
_MAX_ATTEMPTS = 4


class _BrokenDeadlock(StoreUnavailable):
    """The database rolled the transaction back for the sake of another one."""


class Database:
    """One database and its pool of connections. Thread-safe.

    Args:
        url: ``sqlite:///PATH`` or ``postgresql+psycopg://...``.

    Raises:
        ConfigError: The URL is of another kind.
    """

    def __init__(self, url: str) -> None:
        self._url = parse_url(url)
        self._engine = _sqlite_engine(self._url) if self.is_sqlite else _postgres_engine(self._url)
        self._writer = self._engine.execution_options(narrows_writes=True)

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is a SQLite file."""
        return self._url.get_backend_name() == "sqlite"

    @property
    def name(self) -> str:
        """The URL without its password, for people."""
        return self._url.render_as_string(hide_password=True)

    @property
    def path(self) -> Path | None:
        """File of a SQLite database."""
        return Path(self._url.database or "") if self.is_sqlite else None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Connection in a transaction that is rolled back at the end.

        Raises:
            StoreUnavailable: The database is away.
        """
        with self._mapped(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Connection in a transaction that is committed at the end, or rolled back when the block raises.

        On SQLite it holds the write lock from its start, so that nothing read in it can be outdated when it writes.

        Raises:
            StoreUnavailable: The database is away. When it went during the commit, the transaction may have happened.
        """
        with self._mapped(), self._writer.begin() as connection:
            yield connection

    def transact(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in a write transaction, again when the database broke a deadlock at its expense.

        Args:
            work: Called with the connection, perhaps several times; must have no effect outside the transaction.

        Raises:
            StoreUnavailable: The database is away, or the deadlock came back.
        """
        for _attempt in range(_MAX_ATTEMPTS - 1):
            try:
                with self.write() as connection:
                    return work(connection)
            except _BrokenDeadlock:
                continue
        with self.write() as connection:
            return work(connection)

    def close(self) -> None:
        """Close all pooled connections."""
        self._engine.dispose()

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except (exc.DBAPIError, exc.TimeoutError) as error:
            if not is_outage(error):
                raise
            reason = " ".join(str(getattr(error, "orig", None) or error).split()).rstrip(".")
            password = str(self._url.password or "")
            cause: BaseException = getattr(error, "orig", None) or error
            if password and password in str(cause):
                reason = reason.replace(password, "***")
                cause = RuntimeError(str(cause).replace(password, "***"))
            msg = f"The database {self.name} cannot be used: {reason}. Check store.url and that the database runs."
            raise (_BrokenDeadlock if sqlstate(error) in _AGAIN else StoreUnavailable)(msg) from cause


def sqlstate(error: BaseException) -> str | None:
    """SQLSTATE behind an error of SQLAlchemy; None on SQLite and where there is none."""
    code = getattr(getattr(error, "orig", None), "sqlstate", None)
    return code if isinstance(code, str) else None


def is_outage(error: exc.SQLAlchemyError) -> bool:
    """Whether the error says that the database is away, full, locked or shutting down, not that the query is wrong."""
    if isinstance(error, exc.TimeoutError):  # the pool is exhausted
        return True
    if not isinstance(error, exc.DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    if isinstance(error.orig, sqlite3.Error):
        return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in _SQLITE_OUTAGES
    return isinstance(error, exc.OperationalError | exc.InterfaceError) or sqlstate(error) == _READ_ONLY


def parse_url(url: str) -> URL:
    """The URL with its driver.

    Raises:
        ConfigError: Not a URL of SQLite or PostgreSQL. The message does not repeat it: it may hold a password.
    """
    try:
        parsed = make_url(url)
    except (exc.ArgumentError, ValueError):
        msg = "store.url is not a URL. Use sqlite:///PATH or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE."
        raise ConfigError(msg) from None
    backend = parsed.drivername.partition("+")[0]
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        msg = f"store.url starts with {parsed.drivername!r}; it must be sqlite:///PATH or postgresql+psycopg://..."
        raise ConfigError(msg)
    if parsed.database in (None, "", ":memory:"):
        raise ConfigError("store.url names no file; a database in memory would forget the offsets. Use sqlite:///PATH.")
    return parsed


def _sqlite_engine(url: URL) -> Engine:
    engine = sa.create_engine(
        url,
        json_serializer=dump_json,
        hide_parameters=True,
        connect_args={"timeout": _BUSY_TIMEOUT_S, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        # SQLAlchemy's recipe: the driver must not begin transactions by itself, "begin" below does.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode = WAL")
        # Safe for the guarantee: with WAL a power failure can lose the last transactions but not tear one. Offsets are
        # lost together with the results, and the records are simply read again.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        # Without a limit the log never shrinks after one large transaction.
        connection.execute("PRAGMA journal_size_limit = 67108864")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("narrows_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgres_engine(url: URL) -> Engine:
    given = url.query.get("options", "")
    options = f"{_POSTGRES_OPTIONS} {given if isinstance(given, str) else ' '.join(given)}".strip()
    arguments = {name: value for name, value in _POSTGRES_ARGS.items() if name not in url.query}
    return sa.create_engine(
        url.difference_update_query(["options"]),
        json_serializer=dump_json,
        hide_parameters=True,
        # The compare-and-set needs no more: an UPDATE waits for the row and looks again at what was committed.
        isolation_level="READ COMMITTED",
        pool_pre_ping=True,
        pool_timeout=10,
        pool_recycle=1800,
        connect_args={**arguments, "options": options},
    )
