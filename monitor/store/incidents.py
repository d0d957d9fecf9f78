"""Like anomalies become one incident: the grouping, and the upsert that counts them. Statuses are changed elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.records import Anomaly
from monitor.store.column_types import clean_text
from monitor.store.dialects import greater, insert_for, smaller
from monitor.store.tables import SEVERITIES, incidents

_IDS = sa.select(incidents.c.id, incidents.c.fingerprint).where(
    incidents.c.stream == sa.bindparam("of_stream"),
    incidents.c.fingerprint.in_(sa.bindparam("of_fingerprints", expanding=True)),
    sa.text("status <> 'resolved'"),
)
_RANKS = {severity: rank for rank, severity in enumerate(SEVERITIES)}


def group(anomalies: Iterable[Anomaly]) -> dict[str, list[Anomaly]]:
    """Anomalies by fingerprint, in the order of fingerprints: the order in which rows are locked, so none deadlocks."""
    groups: dict[str, list[Anomaly]] = {}
    for anomaly in anomalies:
        groups.setdefault(clean_text(anomaly.fingerprint), []).append(anomaly)
    return dict(sorted(groups.items()))


def join_incidents(
    connection: Connection, stream: str, groups: dict[str, list[Anomaly]], *, now: datetime
) -> dict[str, int]:
    """Count each group into the unresolved incident of its fingerprint, or open one.

    An acknowledged or snoozed incident keeps its status; a resolved one stays as it is, and a new one is opened.

    Args:
        connection: In a write transaction; the incidents stay locked until it ends.
        stream: Stream of all anomalies.
        groups: As ``group`` gives them.
        now: Processing time.

    Returns:
        Id of the incident of each fingerprint.
    """
    rows = [_row(stream, fingerprint, members, now=now) for fingerprint, members in groups.items()]
    connection.execute(_upsert(connection.dialect.name), rows)
    # Locked by the line above, so what is read here cannot be resolved before the commit. One query for all costs less
    # than RETURNING, for which SQLAlchemy writes a statement of its own for every number of rows.
    found = connection.execute(_IDS, {"of_stream": stream, "of_fingerprints": list(groups)})
    return {str(fingerprint): int(number) for number, fingerprint in found}


def _row(stream: str, fingerprint: str, members: list[Anomaly], *, now: datetime) -> dict[str, Any]:
    worst = max(members, key=lambda anomaly: _RANKS[anomaly.severity])
    times = [anomaly.event_time for anomaly in members]
    return {
        "stream": stream,
        "fingerprint": fingerprint,
        "status": "open",
        "severity": worst.severity,
        "nearest_class": worst.nearest_class,
        "max_score_ratio": max(anomaly.score_ratio for anomaly in members),
        "first_seen": min(times),
        "last_seen": max(times),
        "anomaly_count": len(members),
        "created_at": now,
        "updated_at": now,
    }


@cache
def _upsert(dialect: str) -> sa.Insert:
    statement = insert_for(dialect, incidents).inline()
    new, old = statement.excluded, incidents.c
    return statement.on_conflict_do_update(
        index_elements=["stream", "fingerprint"],
        index_where=sa.text("status <> 'resolved'"),
        set_={
            "severity": sa.case((_rank(new.severity) > _rank(old.severity), new.severity), else_=old.severity),
            "max_score_ratio": greater(dialect, old.max_score_ratio, new.max_score_ratio),
            "first_seen": smaller(dialect, old.first_seen, new.first_seen),
            "last_seen": greater(dialect, old.last_seen, new.last_seen),
            "anomaly_count": old.anomaly_count + new.anomaly_count,
            "updated_at": new.updated_at,
        },
    )


def _rank(column: sa.ColumnElement[str]) -> sa.ColumnElement[int]:
    return sa.case(_RANKS, value=column, else_=-1)
