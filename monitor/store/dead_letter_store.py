"""Records that could not be scored, for people and for ``narrows dead-letters redrive``. Nothing is changed here.

A redrive writes its results and marks its dead letters in one transaction of the pipeline's store.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import RowMapping

from monitor.errors import NotFound
from monitor.store.engine import Database
from monitor.store.rows import DeadLetterRow
from monitor.store.tables import dead_letters

Rows = list[DeadLetterRow]


class DeadLetterStore:
    """Dead letters. Blocking; may be called from any thread; raises ``StoreUnavailable`` (retry)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(
        self,
        stream: str | None = None,
        *,
        reason: str | None = None,
        before_id: int | None = None,
        limit: int = 20,
    ) -> Rows:
        """Dead letters, newest first, redriven ones included; filters combine.

        Args:
            stream: Only of this stream.
            reason: Only with this one.
            before_id: Only ids below this one: the last id of the page before.
            limit: At most so many.
        """
        query = sa.select(dead_letters).order_by(dead_letters.c.id.desc()).limit(limit)
        if stream is not None:
            query = query.where(dead_letters.c.stream == stream)
        if reason is not None:
            query = query.where(dead_letters.c.reason == reason)
        if before_id is not None:
            query = query.where(dead_letters.c.id < before_id)
        return self._fetch(query)

    def counts(self, stream: str | None = None) -> dict[str, int]:
        """Dead letters that wait, by reason, the most frequent first."""
        number = sa.func.count().label("n")
        query = sa.select(dead_letters.c.reason, number).where(dead_letters.c.redriven_at.is_(None))
        if stream is not None:
            query = query.where(dead_letters.c.stream == stream)
        query = query.group_by(dead_letters.c.reason).order_by(number.desc(), dead_letters.c.reason)
        with self._database.read() as connection:
            return {row.reason: row.n for row in connection.execute(query)}

    def get(self, dead_letter_id: int) -> DeadLetterRow:
        """One dead letter.

        Raises:
            NotFound: No such id, or retention has removed it.
        """
        found = self._fetch(sa.select(dead_letters).where(dead_letters.c.id == dead_letter_id))
        if not found:
            msg = f"There is no dead letter {dead_letter_id} (or no longer). List them: narrows dead-letters list"
            raise NotFound(msg)
        return found[0]

    def pending_redrive(
        self,
        stream: str,
        *,
        reason: str | None = None,
        ids: Collection[int] | None = None,
        after_id: int = 0,
        limit: int = 1000,
    ) -> Rows:
        """Dead letters of ``stream`` that wait, oldest first, as they are to be replayed; filters combine.

        Args:
            stream: Stream.
            reason: Only with this one.
            ids: Only these; empty means none, None means all.
            after_id: Only ids above this one, to page past those that stay invalid.
            limit: At most so many.
        """
        waiting = (dead_letters.c.stream == stream, dead_letters.c.redriven_at.is_(None), dead_letters.c.id > after_id)
        query = sa.select(dead_letters).where(*waiting).order_by(dead_letters.c.id).limit(limit)
        if reason is not None:
            query = query.where(dead_letters.c.reason == reason)
        if ids is not None:
            query = query.where(dead_letters.c.id.in_(tuple(ids)))
        return self._fetch(query)

    def _fetch(self, query: sa.Select[Any]) -> Rows:
        with self._database.read() as connection:
            return [_dead_letter(row) for row in connection.execute(query).mappings()]


def _dead_letter(row: RowMapping) -> DeadLetterRow:
    values = dict(row)
    return DeadLetterRow(key=values.pop("record_key"), **values)
