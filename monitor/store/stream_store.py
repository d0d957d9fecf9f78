"""The streams that were ever configured. Their settings live in the configuration, not here."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Connection

from monitor.store import audit
from monitor.store.engine import Database
from monitor.store.rows import StreamRow
from monitor.store.tables import streams


class StreamStore:
    """Known streams. Blocking; may be called from any thread; raises ``StoreUnavailable`` (retry)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def sync(self, name: str, topic: str, fingerprint: str, *, now: datetime) -> bool:
        """Note the stream as it is configured now; a change leaves an entry in the audit log.

        Args:
            name: Stream.
            topic: Kafka topic.
            fingerprint: Hash of its settings.
            now: When.

        Returns:
            Whether anything was new.
        """
        row = {"name": name, "topic": topic, "config_fingerprint": fingerprint, "updated_at": now}
        try:
            return self._database.transact(lambda connection: _sync(connection, row, now))
        except exc.IntegrityError:  # another process added the stream at this very moment
            return self._database.transact(lambda connection: _sync(connection, row, now))

    def all(self) -> list[StreamRow]:
        """All streams by name, also those that are no longer configured."""
        with self._database.read() as connection:
            return [StreamRow(**row) for row in connection.execute(sa.select(streams).order_by("name")).mappings()]


def _sync(connection: Connection, row: dict[str, object], now: datetime) -> bool:
    known = sa.select(streams.c.topic, streams.c.config_fingerprint).where(streams.c.name == row["name"])
    found = connection.execute(known.with_for_update()).mappings().one_or_none()
    after = {"topic": row["topic"], "config_fingerprint": row["config_fingerprint"]}
    if found is None:
        connection.execute(streams.insert(), {**row, "created_at": now})
    elif dict(found) == after:
        return False
    else:
        connection.execute(streams.update().where(streams.c.name == row["name"]).values(row))
    before = None if found is None else dict(found)
    what = "stream.add" if found is None else "stream.change"
    audit.append(connection, who="narrows", what=what, stream=str(row["name"]), before=before, after=after, now=now)
    return True
