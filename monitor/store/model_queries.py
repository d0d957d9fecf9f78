"""What may be asked about model versions and thresholds. Changes are in ``model_store.py``."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from monitor.store import audit, threshold_rows, version_rows
from monitor.store.engine import Database
from monitor.store.rows import AuditEntry, ModelVersion, Threshold
from monitor.store.tables import model_versions, thresholds


class ModelQueries:
    """Reads. Blocking; may be called from any thread; raises ``StoreUnavailable`` (retry)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def champion(self, stream: str) -> ModelVersion | None:
        """The version that scores now; None before the first."""
        with self._database.read() as connection:
            return version_rows.aliased(connection, stream, "champion")

    def version(self, stream: str, number: int) -> ModelVersion:
        """One version.

        Raises:
            NotFound: No such number; the message lists those there are.
        """
        with self._database.read() as connection:
            return version_rows.numbered(connection, stream, number)

    def versions(self, stream: str | None = None) -> list[ModelVersion]:
        """All versions of one stream or of all, by stream and number."""
        with self._database.read() as connection:
            return version_rows.listed(connection, stream)

    def thresholds(self, model_version_id: int) -> list[Threshold]:
        """Current threshold of each class, in the order of the version's classes.

        Raises:
            NotFound: No such version.
        """
        with self._database.read() as connection:
            return threshold_rows.current(connection, version_rows.by_id(connection, model_version_id))

    def threshold_history(self, stream: str, limit: int = 100) -> list[Threshold]:
        """Thresholds of all versions and classes, newest first."""
        with self._database.read() as connection:
            return threshold_rows.history(connection, stream=stream, limit=limit)

    def audit_trail(self, stream: str, *, limit: int = 20) -> list[AuditEntry]:
        """Changes of the stream's models and thresholds, newest first."""
        with self._database.read() as connection:
            return audit.entries(connection, stream=stream, limit=limit)

    def revision(self, stream: str) -> tuple[int, int]:
        """What a worker compares every two seconds: one query on two indexes, no blobs.

        Returns:
            (champion id or 0, id of its newest threshold or 0); changes whenever either does.
        """
        with self._database.read() as connection:
            row = connection.execute(revision_query(stream)).one_or_none()
        return (0, 0) if row is None else (row[0], row[1] or 0)


def revision_query(stream: str) -> sa.Select[Any]:
    """Champion and its newest threshold; public so that a test can ask the databases how they run it."""
    newest = (
        sa.select(sa.func.max(thresholds.c.id))
        .where(thresholds.c.model_version_id == model_versions.c.id)
        .scalar_subquery()
    )
    return sa.select(model_versions.c.id, newest).where(
        model_versions.c.stream == stream, model_versions.c.alias == "champion"
    )
