"""Like anomalies become one incident: the grouping, and the upsert that counts them. Statuses are changed elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.records import Anomaly
from monitor.store.column_types import clean_text
from monitor.store.dialects import greater, insert, smaller
from monitor.store.tables import SEVERITIES, incidents

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
    found = connection.execute(_upsert(connection), rows)
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


def _upsert(connection: Connection) -> Any:
    statement = insert(connection, incidents)
    new, old = statement.excluded, incidents.c
    return statement.on_conflict_do_update(
        index_elements=["stream", "fingerprint"],
        index_where=sa.text("status <> 'resolved'"),
        set_={
            "severity": sa.case((_rank(new.severity) > _rank(old.severity), new.severity), else_=old.severity),
            "max_score_ratio": greater(connection, old.max_score_ratio, new.max_score_ratio),
            "first_seen": smaller(connection, old.first_seen, new.first_seen),
            "last_seen": greater(connection, old.last_seen, new.last_seen),
            "anomaly_count": old.anomaly_count + new.anomaly_count,
            "updated_at": new.updated_at,
        },
    ).returning(old.id, old.fingerprint)


def _rank(column: sa.ColumnElement[str]) -> sa.ColumnElement[int]:
    return sa.case(_RANKS, value=column, else_=-1)
