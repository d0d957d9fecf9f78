"""Around any job: the lease, the row of the run, the outcome, the metric. It decides neither when nor what.

Side effects in order; a crash after any of them leaves a state from which the next run goes on:

1. take the lease ``job:<stream>:<name>`` (a dead holder's expires by itself)
2. close runs of this job that never ended: whoever ran them held this lease, so is dead
3. insert the run as ``running``
4. the job itself; everything that it writes carries the lease
5. finish the run, count it
6. release the lease
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from models.api import Progress
from models.errors import ModelError
from monitor.errors import LeaseLost, NarrowsError, NotFound, Unavailable
from monitor.jobs.base import INTERRUPTED, Job, JobCancelled, JobOutcome, JobPorts, JobScope, holder, lease_name
from monitor.jobs.lease_keeper import LeaseKeeper
from monitor.metrics import JOB_RUNS

if TYPE_CHECKING:
    from monitor.settings_streams import StreamSettings
    from monitor.store.rows import Lease

logger = logging.getLogger(__name__)

#: Long enough to survive a slow disk or a short outage, short enough that a crash costs half a minute.
LEASE_TTL_S = 30.0
#: How soon an interrupted run is worth doing again.
RETRY_S = 10.0
#: A detail is read by people and kept for months.
_MAX_ERROR_CHARS = 500


def run_job(
    name: str,
    *,
    stream: StreamSettings,
    ports: JobPorts,
    stop: threading.Event,
    progress: Progress | None = None,
    force: bool = False,
    ttl_s: float = LEASE_TTL_S,
) -> JobOutcome:
    """Run a job of a stream now, in this thread, unless another process runs it.

    Args:
        name: ``"recalibrate"``, ``"retrain"`` or ``"prune"``.
        stream: The stream.
        ports: The world.
        stop: Ends the run early.
        progress: Called with (fraction, line).
        force: See ``JobScope``.
        ttl_s: Time to live of the lease.

    Returns:
        The outcome; a job's failure is an outcome, not an exception.

    Raises:
        NotFound: No such job; the message lists what there is.
        StoreUnavailable: The database went away before the run began.
    """
    job = find_job(name)
    lease = ports.store.jobs.acquire(lease_name(stream.name, name), holder=holder(), ttl_s=ttl_s, now=ports.clock.now())
    if lease is None:
        return _already_running(name, stream.name, ports=ports, ttl_s=ttl_s)
    with LeaseKeeper(ports.store.jobs, lease, ttl_s=ttl_s, clock=ports.clock, stop=stop) as keeper:
        now = ports.clock.now()
        close_dead_runs(name, stream.name, ports=ports, now=now, lease=lease)
        run_id = ports.store.jobs.start_run(name, stream.name, holder=holder(), now=now)
        scope = JobScope(ports, stream, now, lease, keeper, progress or _logged(name, stream.name), force)
        outcome = _outcome(job, scope, name=name)
        return _finish(run_id, outcome, name=name, stream=stream.name, ports=ports)


def find_job(name: str) -> Job:
    """The job of a name.

    Raises:
        NotFound: No such job.
    """
    from monitor.jobs.catalogue import JOBS  # noqa: PLC0415 - the jobs import what is here

    if name not in JOBS:
        raise NotFound(f"No job {name!r}. There is: {', '.join(JOBS)}.")
    return JOBS[name]


def close_dead_runs(name: str, stream: str, *, ports: JobPorts, now: datetime, lease: Lease | None = None) -> int:
    """Mark runs as failed that never ended and whose holder no longer holds the job's lease.

    Args:
        name: Job.
        stream: Stream.
        ports: The world.
        now: Current time.
        lease: The job's lease, where the caller holds it: then no other run can be alive.

    Returns:
        Number of runs closed.
    """
    held = None if lease is not None else ports.store.jobs.lease(lease_name(stream, name))
    alive = held.holder if held is not None and held.expires_at > now else None
    closed = 0
    for run in ports.store.jobs.runs(stream=stream, job=name, limit=10):
        if run.status == "running" and run.holder != alive:
            detail = {"error": f"{run.holder} ended before the run did", INTERRUPTED: True}
            closed += ports.store.jobs.finish_run(run.id, status="failed", detail=detail, now=now)
    return closed


def _outcome(job: Job, scope: JobScope, *, name: str) -> JobOutcome:
    try:
        return job(scope)
    except JobCancelled as error:
        return _failed(str(error), interrupted=True)
    except LeaseLost as error:
        return _failed(str(error))
    except Unavailable as error:
        return _failed(str(error), interrupted=True, retry_after_s=RETRY_S)
    except (NarrowsError, ModelError) as error:
        logger.exception("%s of %s failed", name, scope.stream.name, extra={"action": "job_failed"})
        return _failed(str(error))
    except Exception as error:  # the edge of a job: its failure must not end the scheduler
        logger.exception("%s of %s failed", name, scope.stream.name, extra={"action": "job_failed"})
        return _failed(f"{type(error).__name__}: {error}")


def _failed(error: str, *, interrupted: bool = False, retry_after_s: float | None = None) -> JobOutcome:
    line = " ".join(error.split())[:_MAX_ERROR_CHARS]
    detail: Mapping[str, Any] = {"error": line, INTERRUPTED: True} if interrupted else {"error": line}
    return JobOutcome("failed", line, detail, retry_after_s)


def _finish(run_id: int, outcome: JobOutcome, *, name: str, stream: str, ports: JobPorts) -> JobOutcome:
    detail = {"message": outcome.message, **outcome.detail}
    try:
        ports.store.jobs.finish_run(run_id, status=outcome.status, detail=detail, now=ports.clock.now())
    except Unavailable as error:  # the row stays "running"; whoever runs the job next closes it
        logger.warning("The end of %s of %s is not noted: %s", name, stream, error, extra={"action": "job_unfinished"})
    ports.metrics.increment(JOB_RUNS, stream=stream, job_name=name, status=outcome.status)
    level = logging.INFO if outcome.status in {"succeeded", "skipped"} else logging.WARNING
    logger.log(
        level, "%s of %s %s: %s", name, stream, outcome.status, outcome.message,
        extra={"action": "job_finished", "job_name": name, "stream": stream, "status": outcome.status},
    )  # fmt: skip
    return outcome


def _already_running(name: str, stream: str, *, ports: JobPorts, ttl_s: float) -> JobOutcome:
    ports.metrics.increment(JOB_RUNS, stream=stream, job_name=name, status="skipped")
    lease = ports.store.jobs.lease(lease_name(stream, name))
    runs = ports.store.jobs.runs(stream=stream, job=name, limit=1)
    since = runs[0].started_at.isoformat(timespec="seconds") if runs and runs[0].status == "running" else "just now"
    who = lease.holder if lease is not None and lease.holder else "another process"
    return JobOutcome("skipped", f"running since {since} by {who}", retry_after_s=ttl_s)


def _logged(name: str, stream: str) -> Progress:
    """Progress as log lines, one for each quarter of the way."""
    told = -1

    def progress(fraction: float, line: str) -> None:
        nonlocal told
        if (quarter := int(fraction * 4)) > told:
            told = quarter
            logger.info("%s of %s: %.0f %%, %s", name, stream, 100 * fraction, line, extra={"action": "job_progress"})

    return progress
