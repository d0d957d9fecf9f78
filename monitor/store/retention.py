"""What is deleted when it is old enough, and what never is. The bounds of ``samples`` are kept elsewhere.

====================  =====================================================================================
anomalies             since flagged; never while their incident is unresolved, nor with a verdict of their own:
                      a judged record is an analyst's work and an example to learn from
resolved incidents    since resolved; later, if somebody judged it and some of its anomalies are still there
dead letters          since kept, redriven or not
window statistics     of that minute; drift signals live as long
job runs              since started; never while running
====================  =====================================================================================

Verdicts, suppressions, labels, model versions, thresholds and the audit log stay: people and lineage need them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.store.engine import Database
from monitor.store.tables import anomalies, dead_letters, drift_signals, incidents, job_runs, verdicts, window_stats

if TYPE_CHECKING:
    from monitor.store.store import Store


class RetentionPeriods(Protocol):
    """How long rows are kept; ``[streams.retention]`` of the configuration fits."""

    @property
    def anomalies(self) -> timedelta:
        """Since they were flagged."""
        ...

    @property
    def resolved_incidents(self) -> timedelta:
        """Since they were resolved."""
        ...

    @property
    def dead_letters(self) -> timedelta:
        """Since they were kept."""
        ...

    @property
    def window_stats(self) -> timedelta:
        """Since the minute."""
        ...

    @property
    def job_runs(self) -> timedelta:
        """Since they started."""
        ...


@dataclass(frozen=True, slots=True)
class _Rule:
    """Rows of ``table`` that meet ``condition`` go when ``time`` is further back than ``period``."""

    table: sa.Table
    key: sa.Column[Any]
    time: sa.Column[Any]
    period: timedelta
    condition: sa.ColumnElement[bool]


def _go_on() -> None:
    """Nobody wants to stop."""


def prune(
    store: Store,
    *,
    stream: str,
    retention: RetentionPeriods,
    now: datetime,
    chunk: int = 1000,
    check: Callable[[], None] = _go_on,
) -> dict[str, int]:
    """Delete the stream's rows that are past their time; safe to stop anywhere and to run in two processes.

    Args:
        store: Where.
        stream: Whose rows.
        retention: How long they are kept.
        now: The caller's clock.
        chunk: Rows in one transaction: small, so that no worker waits long.
        check: Called before each transaction; may raise to end here.

    Returns:
        Rows deleted, by table; every table that has a rule is named.

    Raises:
        StoreUnavailable: The database went away; what was deleted stays deleted.
    """
    return prune_database(store.database, stream=stream, retention=retention, now=now, chunk=chunk, check=check)


def prune_database(
    database: Database,
    *,
    stream: str,
    retention: RetentionPeriods,
    now: datetime,
    chunk: int = 1000,
    check: Callable[[], None] = _go_on,
) -> dict[str, int]:
    """As ``prune``, for whoever has no whole store."""
    return {
        rule.table.name: _apply(database, rule, now=now, chunk=chunk, check=check) for rule in _rules(stream, retention)
    }


def _rules(stream: str, retention: RetentionPeriods) -> tuple[_Rule, ...]:
    # Anomalies before incidents: an incident that somebody judged goes after its last anomaly.
    return (
        _Rule(anomalies, anomalies.c.id, anomalies.c.detected_at, retention.anomalies, _free_anomaly(stream)),
        _Rule(incidents, incidents.c.id, incidents.c.updated_at, retention.resolved_incidents, _free_incident(stream)),
        _Rule(
            dead_letters, dead_letters.c.id, dead_letters.c.created_at, retention.dead_letters,
            dead_letters.c.stream == stream,
        ),
        _Rule(
            window_stats, window_stats.c.window_start, window_stats.c.window_start, retention.window_stats,
            window_stats.c.stream == stream,
        ),
        _Rule(
            drift_signals, drift_signals.c.id, drift_signals.c.created_at, retention.window_stats,
            drift_signals.c.stream == stream,
        ),
        _Rule(job_runs, job_runs.c.id, job_runs.c.started_at, retention.job_runs, _free_run(stream)),
    )  # fmt: skip


def _free_anomaly(stream: str) -> sa.ColumnElement[bool]:
    unresolved = sa.exists().where(incidents.c.id == anomalies.c.incident_id, incidents.c.status != "resolved")
    judged = sa.exists().where(verdicts.c.anomaly_id == anomalies.c.id)
    return sa.and_(anomalies.c.stream == stream, sa.not_(unresolved), sa.not_(judged))


def _free_incident(stream: str) -> sa.ColumnElement[bool]:
    judged = sa.exists().where(verdicts.c.incident_id == incidents.c.id)
    peopled = sa.exists().where(anomalies.c.incident_id == incidents.c.id)
    resolved = sa.and_(incidents.c.stream == stream, incidents.c.status == "resolved")
    return sa.and_(resolved, sa.not_(sa.and_(judged, peopled)))


def _free_run(stream: str) -> sa.ColumnElement[bool]:
    own = sa.or_(job_runs.c.stream == stream, job_runs.c.stream.is_(None))
    return sa.and_(own, job_runs.c.status != "running")


def _apply(database: Database, rule: _Rule, *, now: datetime, chunk: int, check: Callable[[], None]) -> int:
    """Delete chunk by chunk, from the oldest on; each goes on where the last one ended, past the rows that stay."""
    deleted, resume_at, full = 0, None, True
    while full:
        check()
        n_found, n_deleted, resume_at = database.transact(
            partial(_delete_chunk, rule=rule, before=now - rule.period, resume_at=resume_at, chunk=chunk)
        )
        deleted += n_deleted
        full = n_found == chunk
    return deleted


def _delete_chunk(
    connection: Connection, *, rule: _Rule, before: datetime, resume_at: datetime | None, chunk: int
) -> tuple[int, int, datetime | None]:
    query = sa.select(rule.key, rule.time.label("at")).where(rule.condition, rule.time < before)
    if resume_at is not None:
        query = query.where(rule.time >= resume_at)
    rows = connection.execute(query.order_by(rule.time, rule.key).limit(chunk)).all()
    if not rows:
        return 0, 0, resume_at
    # The condition again: between the two statements somebody may have judged or reopened what was found.
    doomed = rule.table.delete().where(rule.key.in_([row[0] for row in rows]), rule.condition)
    return len(rows), connection.execute(doomed).rowcount, rows[-1].at
