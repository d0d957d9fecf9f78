"""Keeps the table of samples bounded. Called by whoever adds to it, inside the same transaction."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.store.tables import samples

#: Samples kept of a stream until its settings say otherwise.
_RECENT, _RESERVOIR_PER_CLASS = 5000, 200
#: Trimming costs the same however little there is to trim: it waits until this share of ``recent`` was added.
_TRIM_SHARE = 0.1


class Trimmer:
    """Decides when to trim, so that the table is bounded without any scheduler.

    A guess per process, not a lock: two threads at worst trim twice.
    """

    def __init__(self) -> None:
        self._limits: dict[str, tuple[int, int]] = {}
        self._waiting: dict[str, int] = {}

    def limit(self, stream: str, *, recent: int, reservoir_per_class: int) -> None:
        """Set what ``trim_samples`` leaves of a stream."""
        self._limits[stream] = (recent, reservoir_per_class)

    def trim(self, connection: Connection, stream: str, *, added: int) -> None:
        """Trim in the caller's transaction if enough samples were added, ``added`` of them in this transaction."""
        if self._is_due(stream, added):
            recent, reservoir = self._limits.get(stream, (_RECENT, _RESERVOIR_PER_CLASS))
            trim_samples(connection, stream, recent=recent, reservoir_per_class=reservoir)

    def committed(self, stream: str, *, added: int) -> None:
        """Count what was added, after the commit only: a transaction that was rolled back has trimmed nothing."""
        if added:
            self._waiting[stream] = 0 if self._is_due(stream, added) else self._waiting.get(stream, 0) + added

    def _is_due(self, stream: str, added: int) -> bool:
        recent, _ = self._limits.get(stream, (_RECENT, _RESERVOIR_PER_CLASS))
        # A process begins with a trim, or processes that restart often would add up what each left behind.
        waiting = self._waiting.get(stream, recent)
        return added > 0 and waiting + added >= max(1, int(recent * _TRIM_SHARE))


def trim_samples(connection: Connection, stream: str, *, recent: int, reservoir_per_class: int) -> int:
    """Delete the samples of a stream that are neither recent nor in the reservoir of their class.

    Args:
        connection: In a write transaction.
        stream: Name of the stream.
        recent: Newest samples that stay, whatever their class.
        reservoir_per_class: Samples of each class (label, else predicted class) that stay: those with the smallest
            ``reservoir_key``, a uniform choice from all that was ever kept.

    Returns:
        Number of rows deleted.
    """
    surplus = sa.select(samples.c.id).where(
        samples.c.stream == stream,
        samples.c.id.not_in(_recent(stream, recent)),
        samples.c.id.not_in(_reservoirs(stream, reservoir_per_class)),
    )
    if connection.dialect.name == "postgresql":
        # Another worker may be deleting the same rows: leave those to it, or two of them wait for each other.
        surplus = surplus.with_for_update(skip_locked=True)
    return connection.execute(sa.delete(samples).where(samples.c.id.in_(surplus))).rowcount


def _recent(stream: str, limit: int) -> sa.Select[tuple[int]]:
    newest = sa.select(samples.c.id).where(samples.c.stream == stream)
    ordered = newest.order_by(samples.c.kept_at.desc(), samples.c.id.desc()).limit(limit).subquery()
    return sa.select(ordered.c.id)


def _reservoirs(stream: str, limit: int) -> sa.Select[tuple[int]]:
    group = sa.func.coalesce(samples.c.label, samples.c.predicted_class)
    rank = sa.func.row_number().over(partition_by=group, order_by=(samples.c.reservoir_key, samples.c.id))
    ranked = sa.select(samples.c.id, rank.label("rank")).where(samples.c.stream == stream).subquery()
    return sa.select(ranked.c.id).where(ranked.c.rank <= limit)
