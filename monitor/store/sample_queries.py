"""Which samples calibrate and which train, as queries, and their rows as arrays. Nothing is written here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.store.rows import SampleSet
from monitor.store.tables import labels as late_labels
from monitor.store.tables import samples

#: Verdicts that make a flagged record a normal one.
NORMAL_VERDICTS = ("not_anomaly", "new_normal")
#: Verdicts that make a record an anomaly, flagged or not; "expected" is one that somebody announced.
ANOMALY_VERDICTS = ("anomaly", "expected")

_JOINED = samples.outerjoin(
    late_labels, sa.and_(late_labels.c.stream == samples.c.stream, late_labels.c.sample_id == samples.c.sample_id)
)
_LABEL = sa.func.coalesce(late_labels.c.label, samples.c.label)
_CALLED_NORMAL = sa.func.coalesce(samples.c.verdict.in_(NORMAL_VERDICTS), sa.false())
_CALLED_ANOMALY = sa.func.coalesce(samples.c.verdict.in_(ANOMALY_VERDICTS), sa.false())
_NEWEST_FIRST = (samples.c.kept_at.desc(), samples.c.id.desc())
_COLUMNS = (
    # Bytes, not arrays: all rows become one array at once.
    sa.type_coerce(samples.c.features, sa.LargeBinary).label("features"),
    _LABEL.label("label"),
    samples.c.predicted_class,
    samples.c.score,
    samples.c.event_time,
    samples.c.flagged,
    samples.c.verdict,
)


def scored(stream: str, *, limit: int, after: datetime | None) -> sa.Select[Any]:
    """Samples that the stream brought, newest first; rows of training files have no score and do not count."""
    query = sa.select(*_COLUMNS).select_from(_JOINED).where(samples.c.stream == stream, samples.c.score.is_not(None))
    if after is not None:
        query = query.where(samples.c.event_time > after)
    return query.order_by(*_NEWEST_FIRST).limit(limit)


def normal(stream: str, *, limit: int, after: datetime | None) -> sa.Select[Any]:
    """Those of ``scored`` that were not flagged or that a verdict calls normal."""
    wanted = sa.or_(sa.not_(samples.c.flagged), _CALLED_NORMAL)
    return scored(stream, limit=limit, after=after).where(wanted, sa.not_(_CALLED_ANOMALY))


def labelled(stream: str, *, classes: Sequence[str] | None, limit_per_class: int) -> sa.Select[Any]:
    """Labelled samples of each class: one half the newest, the other half a uniform choice from the older ones."""
    vouched = _CALLED_NORMAL if classes is None else sa.true()
    wanted = (
        sa.select(samples.c.id, _LABEL.label("label"), samples.c.reservoir_key, _rank_by_age().label("age"))
        .select_from(_JOINED)
        .where(samples.c.stream == stream, _LABEL.is_not(None), sa.not_(_CALLED_ANOMALY))
        .where(sa.or_(sa.not_(samples.c.flagged), vouched))
    )
    if classes is not None:
        wanted = wanted.where(_LABEL.in_(tuple(classes)))
    aged = wanted.subquery("aged")
    newest = aged.c.age <= (limit_per_class + 1) // 2
    order = (sa.case((newest, 0), else_=1), sa.case((newest, aged.c.age), else_=0), aged.c.reservoir_key, aged.c.id)
    place = sa.func.row_number().over(partition_by=aged.c.label, order_by=order)
    placed = sa.select(aged.c.id, place.label("place")).subquery("placed")
    chosen = sa.select(placed.c.id).where(placed.c.place <= limit_per_class)
    return sa.select(*_COLUMNS).select_from(_JOINED).where(samples.c.id.in_(chosen)).order_by(*_NEWEST_FIRST)


def fetch(connection: Connection, query: sa.Select[Any]) -> SampleSet:
    """Run one of the queries above.

    Rows of another dimension than the newest one are left out: they are from before the stream's schema changed.
    """
    rows = connection.execute(query).all()
    if not rows:
        return _EMPTY
    size = len(rows[0].features)
    rows = [row for row in rows if len(row.features) == size]
    features, labels, predicted, scores, times, flagged, verdicts = zip(*rows, strict=True)
    return SampleSet(
        x=np.frombuffer(b"".join(features), "<f4").reshape(len(rows), -1).astype(np.float32),
        labels=labels,
        predicted=predicted,
        scores=np.array(scores, dtype=np.float64),  # None becomes NaN
        event_times=times,
        flagged=np.array(flagged, dtype=np.bool_),
        verdicts=verdicts,
    )


def _rank_by_age() -> sa.ColumnElement[int]:
    return sa.func.row_number().over(partition_by=_LABEL, order_by=_NEWEST_FIRST)


_EMPTY = SampleSet(
    x=np.empty((0, 0), np.float32),
    labels=(),
    predicted=(),
    scores=np.empty(0, np.float64),
    event_times=(),
    flagged=np.empty(0, np.bool_),
    verdicts=(),
)
