"""What is done to a database as a whole: schema revisions, signs of life, retention. No rows are read here."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from monitor.errors import SchemaBehind, StoreError
from monitor.store.engine import Database
from monitor.store.retention import RetentionPeriods, prune_database

#: Key of the advisory lock that migrations take on PostgreSQL: the bytes of "narrows".
_LOCK_KEY = int.from_bytes(b"narrows", "big")
#: Longest wait for another process that migrates, milliseconds.
_LOCK_WAIT_MS = 60_000
_BASE = "base"
#: Alembic keeps the migration that runs in a global of its module: one at a time in a process, whatever the database.
_one_at_a_time = threading.Lock()


class StoreAdmin:
    """Upgrades, downgrades, checks and prunes a database.

    Args:
        database: Which one.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._config = Config()
        self._config.set_main_option("script_location", "monitor.store:migrations")
        self._config.set_main_option("path_separator", "os")
        self._scripts = ScriptDirectory.from_config(self._config)

    def head(self) -> str:
        """Revision that this program needs."""
        return self._scripts.get_current_head() or _BASE

    def current(self) -> str | None:
        """Revision of the database; None when it has no tables yet."""
        with self._database.read() as connection:
            return MigrationContext.configure(connection).get_current_revision()

    def upgrade(self) -> str:
        """Bring the database to ``head()``; safe to run twice, and in two processes at once.

        Returns:
            The revision that the database has now.

        Raises:
            StoreError: The database is newer than the program.
        """
        self._refuse_newer(self.current())
        self._migrate(command.upgrade, "head")
        return self.head()

    def downgrade(self, revision: str = _BASE) -> None:
        """Bring the database back to ``revision``; what later revisions added is lost, rows included."""
        self._migrate(command.downgrade, revision)

    def check(self) -> None:
        """Say whether this program can work with the database.

        Raises:
            SchemaBehind: The database is older.
            StoreError: The database is newer.
        """
        current = self.current()
        self._refuse_newer(current)
        if current != self.head():
            msg = (
                f"The database {self._database.name} has schema {current or 'none'}, this program needs "
                f"{self.head()}. Run: narrows db upgrade."
            )
            raise SchemaBehind(msg)

    def ping(self) -> None:
        """Ask the database for nothing.

        Raises:
            StoreUnavailable: No answer.
        """
        with self._database.read() as connection:
            connection.execute(sa.text("SELECT 1"))

    def prune(self, *, stream: str, retention: RetentionPeriods, now: datetime) -> dict[str, int]:
        """Delete the stream's rows that are past their time; see ``retention.prune``.

        Returns:
            Rows deleted, by table.
        """
        return prune_database(self._database, stream=stream, retention=retention, now=now)

    def _refuse_newer(self, current: str | None) -> None:
        if current is not None and current not in {script.revision for script in self._scripts.walk_revisions()}:
            msg = (
                f"The database {self._database.name} has schema {current}, which this program does not know: a newer "
                "one made it. Install that version, or downgrade the database with it first."
            )
            raise StoreError(msg)

    def _migrate(self, step: Callable[[Config, str], object], revision: str) -> None:
        with _one_at_a_time, self._database.write() as connection:
            _lock(connection)
            self._config.attributes["connection"] = connection
            step(self._config, revision)


def _lock(connection: Connection) -> None:
    """Keep other migrations out until the transaction ends; SQLite's write transaction does so by itself."""
    if connection.dialect.name != "postgresql":
        return
    connection.execute(sa.text(f"SET LOCAL lock_timeout = {_LOCK_WAIT_MS}"))
    # Building an index over many million rows takes longer than any query of the service may.
    connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK_KEY)))
