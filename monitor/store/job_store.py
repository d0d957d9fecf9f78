"""Leases (who may do a job) and job runs (what was done). Not the schedule.

Safety rests on the fencing token, not on clocks: every guarded write checks in its own transaction that the lease row
still carries the writer's token. Expiry therefore takes ``now`` from the caller on both databases; machines whose
clocks differ hand a lease over too early or too late, and never write both.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import Connection

from monitor.errors import LeaseLost
from monitor.store.engine import Database
from monitor.store.rows import JobRun, Lease, LeaseRow
from monitor.store.tables import job_runs, leases

#: Expiry of a released lease: in the past by any clock.
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def check_lease(connection: Connection, lease: Lease | None) -> None:
    """Refuse the caller's transaction unless ``lease`` is still held; None asks for no check.

    The row is written, not only read: whoever wants to take the lease over waits until the caller has committed.

    Raises:
        LeaseLost: Another process took it, or it was released.
    """
    if lease is None:
        return
    held = leases.update().where(leases.c.name == lease.name, leases.c.token == lease.token, leases.c.holder != "")
    if connection.execute(held.values(token=leases.c.token)).rowcount != 1:
        msg = f"{lease.holder} no longer holds the lease {lease.name!r}; nothing was written."
        raise LeaseLost(msg)


class JobStore:
    """Leases and job runs. Blocking; may be called from any thread; raises ``StoreUnavailable`` (retry)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def acquire(self, name: str, *, holder: str, ttl_s: float, now: datetime) -> Lease | None:
        """Take the lease if it is free, new or expired; one statement, so that of many callers one wins.

        Args:
            name: What the lease guards.
            holder: Who asks, ``host:pid``.
            ttl_s: Seconds until others may take it.
            now: The caller's clock.

        Returns:
            The lease with a token greater than any before it, or None when another holder has it.
        """
        expires_at = now + timedelta(seconds=ttl_s)
        insert = sqlite_insert(leases) if self._database.is_sqlite else postgres_insert(leases)
        take = (
            insert.values(name=name, holder=holder, token=1, expires_at=expires_at)
            .on_conflict_do_update(
                index_elements=[leases.c.name],
                set_={"holder": holder, "token": leases.c.token + 1, "expires_at": expires_at},
                where=leases.c.expires_at <= now,
            )
            .returning(leases.c.token)
        )
        token = self._database.transact(lambda connection: connection.execute(take).scalar_one_or_none())
        return None if token is None else Lease(name, holder, token, expires_at)

    def renew(self, lease: Lease, *, ttl_s: float, now: datetime) -> bool:
        """Move the expiry.

        Returns:
            False when the lease was lost: stop without writing.
        """
        return self._set(lease, expires_at=now + timedelta(seconds=ttl_s))

    def release(self, lease: Lease) -> None:
        """Free the lease if it is still held; the row stays, so that its token is never given again."""
        self._set(lease, holder="", expires_at=_LONG_AGO)

    def lease(self, name: str) -> LeaseRow | None:
        """The lease as it stands; None when nobody ever held it. ``holder`` is empty after a release."""
        with self._database.read() as connection:
            row = connection.execute(sa.select(leases).where(leases.c.name == name)).mappings().one_or_none()
        return None if row is None else LeaseRow(**row)

    def start_run(self, job: str, stream: str | None, *, holder: str, now: datetime) -> int:
        """Note that a run begins.

        Returns:
            Its id, for ``finish_run``.
        """
        values: dict[str, Any] = {
            "job": job,
            "stream": stream,
            "started_at": now,
            "status": "running",
            "detail": {},
            "holder": holder,
        }
        query = job_runs.insert().values(values).returning(job_runs.c.id)
        return int(self._database.transact(lambda connection: connection.execute(query).scalar_one()))

    def finish_run(self, run_id: int, *, status: str, detail: Mapping[str, Any], now: datetime) -> bool:
        """Note how a run ended.

        Args:
            run_id: What ``start_run`` returned.
            status: ``"succeeded"``, ``"failed"``, ``"rejected"`` or ``"skipped"``.
            detail: What to remember, as JSON.
            now: End of the run.

        Returns:
            False when the run was declared dead before; its row is left alone.
        """
        query = job_runs.update().where(job_runs.c.id == run_id, job_runs.c.status == "running")
        query = query.values(status=status, detail=dict(detail), finished_at=now)
        return self._database.transact(lambda connection: connection.execute(query).rowcount == 1)

    def runs(self, stream: str | None = None, job: str | None = None, limit: int = 20) -> list[JobRun]:
        """Runs, newest first; filters combine."""
        query = sa.select(job_runs).order_by(job_runs.c.started_at.desc(), job_runs.c.id.desc()).limit(limit)
        if stream is not None:
            query = query.where(job_runs.c.stream == stream)
        if job is not None:
            query = query.where(job_runs.c.job == job)
        with self._database.read() as connection:
            return [JobRun(**row) for row in connection.execute(query).mappings()]

    def abandon_stale(self, *, now: datetime, started_before: datetime, except_holder: str | None = None) -> int:
        """Mark runs as failed that began before ``started_before`` and never ended.

        Called by a scheduler that has just taken the lease: whoever ran these is dead, or was declared so.

        Args:
            now: End to write into the rows.
            started_before: Later runs may still go on.
            except_holder: Whose runs are alive for certain.

        Returns:
            Number of runs marked.
        """
        stale = sa.and_(job_runs.c.status == "running", job_runs.c.started_at < started_before)
        if except_holder is not None:
            stale = sa.and_(stale, job_runs.c.holder != except_holder)
        return self._database.transact(lambda connection: _fail(connection, stale, now))

    def _set(self, lease: Lease, **values: Any) -> bool:
        query = leases.update().where(leases.c.name == lease.name, leases.c.token == lease.token, leases.c.holder != "")
        return self._database.transact(lambda connection: connection.execute(query.values(values)).rowcount == 1)


def _fail(connection: Connection, stale: sa.ColumnElement[bool], now: datetime) -> int:
    dead = connection.execute(sa.select(job_runs.c.id, job_runs.c.holder).where(stale)).all()
    for run_id, holder in dead:
        detail = {"error": f"{holder} ended or was cut off before the run did"}
        query = job_runs.update().where(job_runs.c.id == run_id, job_runs.c.status == "running")
        connection.execute(query.values(status="failed", finished_at=now, detail=detail))
    return len(dead)
