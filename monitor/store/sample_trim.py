"""Keeps the table of samples bounded. Called by whoever adds to it, inside the same transaction."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.store.tables import samples


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
