"""The row of a stream and minute: counts and quantiles that several workers add to. No other table is touched here."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.records import BatchOutcome
from monitor.store.dialects import insert_new
from monitor.store.sketch import Sketch
from monitor.store.tables import window_stats as table

_COUNTS = ("n_records", "n_anomalies", "n_invalid", "n_tombstones")
_SELECT = (
    sa.select(*(table.c[name] for name in (*_COUNTS, "lag", "score_sketch", "latency_sketch")))
    .where(table.c.stream == sa.bindparam("key_stream"), table.c.window_start == sa.bindparam("key_window"))
    # A second worker waits here, and then adds to what the first one committed. SQLite holds the write lock anyway.
    .with_for_update()
)
_UPDATE = sa.update(table).where(
    table.c.stream == sa.bindparam("key_stream"), table.c.window_start == sa.bindparam("key_window")
)


def add_window(connection: Connection, outcome: BatchOutcome, *, now: datetime) -> None:
    """Add the outcome to the row of its minute, which stays locked until the transaction ends.

    Args:
        connection: In a write transaction; this should be its last statement, so that the lock is short.
        outcome: What to add.
        now: Processing time.
    """
    added = _summary(outcome)
    key = {"key_stream": outcome.stream, "key_window": outcome.window_start}
    stored = connection.execute(_SELECT, key).one_or_none()
    if stored is None:
        row = {"stream": outcome.stream, "window_start": outcome.window_start, **_columns(added), "updated_at": now}
        if insert_new(connection, table, [row]) == 1:
            return
        stored = connection.execute(_SELECT, key).one()  # another worker was faster
    merged = _merge(dict(stored._mapping), added)  # noqa: SLF001 - the public name of a row's mapping
    connection.execute(_UPDATE, {**key, **_columns(merged), "updated_at": now})


def _summary(outcome: BatchOutcome) -> dict[str, Any]:
    parts = outcome.parts
    nothing = np.zeros(0)
    return {
        "n_records": sum(part.n_records for part in parts),
        "n_anomalies": sum(len(part.anomalies) for part in parts),
        "n_invalid": sum(len(part.dead_letters) for part in parts),
        "n_tombstones": sum(part.n_tombstones for part in parts),
        "lag": max((part.lag for part in parts), default=0),
        "score_sketch": Sketch.of(np.concatenate([nothing, *(part.scores for part in parts)])),
        "latency_sketch": Sketch.of(np.concatenate([nothing, *(part.latencies_s for part in parts)])),
    }


def _merge(stored: dict[str, Any], added: dict[str, Any]) -> dict[str, Any]:
    merged = {name: stored[name] + added[name] for name in _COUNTS}
    merged["lag"] = max(stored["lag"], added["lag"])
    for name in ("score_sketch", "latency_sketch"):
        merged[name] = Sketch.from_bytes(stored[name]).merge(added[name])
    return merged


def _columns(summary: dict[str, Any]) -> dict[str, Any]:
    scores, latencies = summary["score_sketch"], summary["latency_sketch"]
    return {
        **summary,
        "score_p50": scores.quantile(0.5),
        "score_p90": scores.quantile(0.9),
        "score_p99": scores.quantile(0.99),
        "score_max": scores.quantile(1),
        "latency_p50": latencies.quantile(0.5),
        "latency_p99": latencies.quantile(0.99),
        "latency_max": latencies.quantile(1),
        "score_sketch": scores.to_bytes(),
        "latency_sketch": latencies.to_bytes(),
    }
