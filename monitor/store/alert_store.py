"""What was flagged, for people: anomalies and incidents, newest first. Nothing is changed here."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from monitor.errors import NotFound
from monitor.store.engine import Database
from monitor.store.rows import AnomalyRow, IncidentRow
from monitor.store.tables import anomalies, incidents, model_versions, verdicts

#: What needs a look.
UNRESOLVED = ("open", "acknowledged", "snoozed")


class AlertStore:
    """Anomalies and incidents. Blocking; may be called from any thread; raises ``StoreUnavailable`` (retry)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def anomalies(
        self,
        stream: str | None = None,
        *,
        incident: int | None = None,
        since: datetime | None = None,
        min_ratio: float | None = None,
        before_id: int | None = None,
        limit: int = 20,
    ) -> list[AnomalyRow]:
        """Anomalies, those flagged last first; filters combine.

        Args:
            stream: Only of this stream.
            incident: Only of this incident.
            since: Only those flagged at or after this time.
            min_ratio: Only scores of at least this multiple of their threshold.
            before_id: Only ids below this one: the last id of the page before.
            limit: At most so many.
        """
        query = _newest_first(by_id=incident is not None).limit(limit)
        if stream is not None:
            query = query.where(anomalies.c.stream == stream)
        if incident is not None:
            query = query.where(anomalies.c.incident_id == incident)
        if since is not None:
            query = query.where(anomalies.c.detected_at >= since)
        if min_ratio is not None:
            query = query.where(anomalies.c.score_ratio >= min_ratio)
        if before_id is not None:
            query = query.where(_behind(before_id, by_id=incident is not None))
        with self._database.read() as connection:
            return [AnomalyRow(**row) for row in connection.execute(query).mappings()]

    def anomaly(self, anomaly_id: int) -> AnomalyRow:
        """One anomaly.

        Raises:
            NotFound: No such id, or retention has removed it.
        """
        with self._database.read() as connection:
            row = connection.execute(_anomalies().where(anomalies.c.id == anomaly_id)).mappings().one_or_none()
        if row is None:
            msg = f"There is no anomaly {anomaly_id} (or no longer). List them: narrows alerts list"
            raise NotFound(msg)
        return AnomalyRow(**row)

    def incidents(
        self, stream: str | None = None, *, status: Collection[str] = UNRESOLVED, limit: int = 20
    ) -> list[IncidentRow]:
        """Incidents, those seen last first.

        Args:
            stream: Only of this stream.
            status: Only with one of these; the default leaves the resolved ones out.
            limit: At most so many.
        """
        query = sa.select(incidents).where(incidents.c.status.in_(tuple(status)))
        if stream is not None:
            query = query.where(incidents.c.stream == stream)
        query = query.order_by(incidents.c.last_seen.desc(), incidents.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            return [IncidentRow(**row) for row in connection.execute(query).mappings()]

    def incident(self, incident_id: int) -> IncidentRow:
        """One incident.

        Raises:
            NotFound: No such id, or retention has removed it.
        """
        with self._database.read() as connection:
            row = connection.execute(sa.select(incidents).where(incidents.c.id == incident_id)).mappings().one_or_none()
        if row is None:
            msg = f"There is no incident {incident_id} (or no longer). List them: narrows alerts list --incidents"
            raise NotFound(msg)
        return IncidentRow(**row)


def _anomalies() -> sa.Select[Any]:
    """All columns, with the version's number for its id, and the newest verdict on the anomaly or else its incident."""
    columns = [column for column in anomalies.c if column is not anomalies.c.model_version_id]
    verdict = sa.func.coalesce(
        _newest_verdict(verdicts.c.anomaly_id == anomalies.c.id),
        _newest_verdict(verdicts.c.incident_id == anomalies.c.incident_id),
    )
    return sa.select(*columns, model_versions.c.number.label("model_version"), verdict.label("verdict")).join(
        model_versions, model_versions.c.id == anomalies.c.model_version_id
    )


def _newest_first(*, by_id: bool) -> sa.Select[Any]:
    """In the order of an index: by time, or by id within an incident, which comes to the same."""
    return _anomalies().order_by(*(() if by_id else (anomalies.c.detected_at.desc(),)), anomalies.c.id.desc())


def _behind(anomaly_id: int, *, by_id: bool) -> sa.ColumnElement[bool]:
    """Rows that follow ``anomaly_id`` in that order."""
    if by_id:
        return anomalies.c.id < anomaly_id
    page = anomalies.alias("page")
    time = sa.select(page.c.detected_at).where(page.c.id == anomaly_id).scalar_subquery()
    tie = sa.or_(anomalies.c.detected_at < time, anomalies.c.id < anomaly_id)
    return sa.and_(anomalies.c.detected_at <= time, tie)


def _newest_verdict(subject: sa.ColumnElement[bool]) -> sa.ScalarSelect[str]:
    query = sa.select(verdicts.c.verdict).where(subject).order_by(verdicts.c.id.desc()).limit(1)
    return query.correlate(anomalies).scalar_subquery()
