"""Runs jobs by the clock, in one process at a time. What a job does is ``monitor/jobs``; only this imports apscheduler.

Decision 6 in README: an elected leader with a job store in memory, not a shared job store.

Context: several processes may run a scheduler, for availability; two APScheduler instances on one job store run jobs
twice.
Decision: whoever holds the lease ``scheduler`` leads; the others wait for it. A leader that dies is followed within
one time to live plus one poll. On taking over, each job's last rows in ``job_runs`` say whether it is due. Jobs hold
leases of their own and write with them, so even two leaders (clocks that differ, a stopped process that wakes up) do
nothing twice.
Rejected: an SQL job store (it pickles, and needs the same election); an advisory lock (PostgreSQL only, and lost with a
pooled connection without anybody noticing).
"""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED, SchedulerEvent
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger

from monitor.backoff import delay_s, worth_saying
from monitor.cron import month_numbers, weekday_names
from monitor.errors import Unavailable
from monitor.jobs.base import JobOutcome, JobPorts, holder
from monitor.jobs.catalogue import schedules
from monitor.jobs.due import RUNS_NEEDED, is_due
from monitor.jobs.lease_keeper import RENEWALS_PER_TTL, LeaseKeeper
from monitor.jobs.runner import close_dead_runs, run_job
from monitor.metrics import JOB_RUNS, SCHEDULER_ALIVE
from monitor.ports import Clock, Metrics
from monitor.retrying import Outage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from monitor.registry import Registry
    from monitor.settings import Settings
    from monitor.settings_streams import StreamSettings
    from monitor.settings_types import Schedule
    from monitor.store import Store

logger = logging.getLogger(__name__)

LEASE = "scheduler"
#: A dead leader is followed after at most 4/3 of this; shorter, and a slow disk costs the lead.
LEASE_TTL_S = 15.0
#: After taking over: lets a burst of restarts settle before jobs that are due begin.
CATCH_UP_AFTER_S = 2.0
#: How long running jobs may take to end when asked; leaves time for the rest of a 10 s shutdown.
HALT_TIMEOUT_S = 7.0
#: Spreads the jobs of many deployments that share a database; small against every sensible interval.
_MAX_JITTER_S = 10.0
#: A run this late still happens: coalesced runs are never stale work, and a queue behind a long training must not
#: lose any.
_MISFIRE_GRACE_S = 6 * 3600
_TICK_S = 0.5


def next_fire(schedule: Schedule, after: datetime) -> datetime | None:
    """First time later than ``after`` that the schedule names; None for a schedule that is off or never fires."""
    if schedule.interval is not None:
        return after + schedule.interval
    if schedule.cron is None:
        return None
    found: datetime | None = _cron(schedule.cron).get_next_fire_time(None, after + timedelta(microseconds=1))
    return None if found is None else found.astimezone(UTC)


def _trigger(schedule: Schedule) -> BaseTrigger:
    if schedule.interval is None:
        return _cron(schedule.cron or "")
    seconds = schedule.interval.total_seconds()
    return IntervalTrigger(seconds=seconds, timezone=UTC, jitter=min(_MAX_JITTER_S, 0.02 * seconds))


def _cron(expression: str) -> BaseTrigger:
    """APScheduler counts from Monday and wants day and weekday both; cron counts from Sunday and wants either."""
    minute, hour, day, month, weekday = expression.split()
    common = {"minute": minute, "hour": hour, "month": ",".join(map(str, month_numbers(month))), "timezone": UTC}
    days = ",".join(weekday_names(weekday))
    if day.startswith("*") or weekday.startswith("*"):
        return CronTrigger(day=day, day_of_week=days, **common)
    return OrTrigger([CronTrigger(day=day, **common), CronTrigger(day_of_week=days, **common)])


class SchedulerService:
    """Stands for election, leads while elected, and ends with the stop signal. One ``run`` per instance, in any thread.

    Args:
        settings: Streams with their schedules.
        store: Leases, runs and everything that jobs need.
        registry: Artifacts.
        clock: Its ``sleep`` must end with the stop signal.
        metrics: Measurements.
        stop_event: Ends ``run`` within ten seconds.
        streams: Names of the streams whose jobs to run; all by default.
        ttl_s: Time to live of the leader's lease.
        catch_up_after_s: Delay of jobs that are due when this process takes over.
    """

    def __init__(  # noqa: PLR0913 - the whole world of every job
        self,
        settings: Settings,
        store: Store,
        registry: Registry,
        clock: Clock,
        metrics: Metrics,
        stop_event: threading.Event,
        *,
        streams: Sequence[str] | None = None,
        ttl_s: float = LEASE_TTL_S,
        catch_up_after_s: float = CATCH_UP_AFTER_S,
    ) -> None:
        self._ports = JobPorts(store, registry, clock, metrics)
        self._streams = [stream for stream in settings.streams if streams is None or stream.name in streams]
        # Schedulers that were given streams of their own do not compete with those of other streams.
        self._lease_name = LEASE if streams is None else ":".join([LEASE, *sorted(streams)])
        self._stop = stop_event
        self._ttl_s, self._catch_up_after_s = ttl_s, catch_up_after_s
        self._outage = Outage(stream=LEASE, clock=clock, metrics=metrics)

    def run(self) -> None:
        """Lead or wait to lead until the stop signal. An outage of the database is waited for."""
        self._alive(leading=False)
        while not self._stop.is_set():
            try:
                self._stand()
            except Unavailable as error:
                self._outage.wait(error)
            except Exception:  # the edge of a thread: a scheduler that ends silently would be missed days later
                logger.exception("The scheduler failed; trying again", extra={"action": "scheduler_failed"})
                self._stop.wait(self._ttl_s)

    def _stand(self) -> None:
        jobs = self._ports.store.jobs
        lease = jobs.acquire(self._lease_name, holder=holder(), ttl_s=self._ttl_s, now=self._ports.clock.now())
        self._outage.over()
        if lease is None:
            self._stop.wait(self._ttl_s / RENEWALS_PER_TTL)
            return
        with LeaseKeeper(jobs, lease, ttl_s=self._ttl_s, clock=self._ports.clock, stop=self._stop) as keeper:
            self._lead(keeper)

    def _lead(self, keeper: LeaseKeeper) -> None:
        term = Term(self._ports, self._streams, catch_up_after_s=self._catch_up_after_s)
        self._alive(leading=True)
        logger.info("This process schedules the jobs now", extra={"action": "scheduler_leads", "holder": holder()})
        term.begin()
        try:
            while keeper.reason is None:
                keeper.wait(_TICK_S)
        finally:
            logger.info("Scheduling ends: %s", keeper.reason, extra={"action": "scheduler_ends"})
            term.end(timeout_s=HALT_TIMEOUT_S)
            self._alive(leading=False)

    def _alive(self, *, leading: bool) -> None:
        for stream in self._streams:
            self._ports.metrics.set(SCHEDULER_ALIVE, float(leading), stream=stream.name)


class Term:
    """One leadership: an APScheduler with all jobs, from ``begin`` to ``end``.

    Each job is there twice: by its schedule, and as a *check* that runs it only if it is due by what ``job_runs``
    says: soon after taking over, and again after a run that could not happen. Training has a thread of its own, so
    that it delays nothing.
    """

    def __init__(self, ports: JobPorts, streams: Sequence[StreamSettings], *, catch_up_after_s: float) -> None:
        self._ports, self._streams, self._catch_up_after_s = ports, streams, catch_up_after_s
        self._halt = threading.Event()
        self._idle = threading.Condition()
        self._running = 0
        self._failures: dict[str, int] = {}
        self._rng = Random()  # noqa: S311 - jitter, not a secret
        executors = {"quick": ThreadPoolExecutor(max(2, min(4, len(streams)))), "training": ThreadPoolExecutor(1)}
        self._scheduler = BackgroundScheduler(timezone=UTC, executors=executors)
        self._scheduler.add_listener(self._listen, EVENT_JOB_ERROR | EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES)

    def begin(self) -> None:
        """Start; returns at once."""
        for stream in self._streams:
            for name, schedule in schedules(stream).items():
                self._add(name, stream, trigger=_trigger(schedule), check=False)
                self._check_later(name, stream, delay=self._catch_up_after_s)
        self._scheduler.start()

    def end(self, *, timeout_s: float) -> None:
        """Start nothing more, ask running jobs to end, and wait for them up to ``timeout_s``."""
        self._halt.set()
        self._scheduler.shutdown(wait=False)
        with self._idle:
            if not self._idle.wait_for(lambda: not self._running, timeout_s):
                logger.warning("%d jobs still run", self._running, extra={"action": "jobs_still_run"})

    def _check_later(self, name: str, stream: StreamSettings, *, delay: float) -> None:
        if not self._halt.is_set():
            at = datetime.now(UTC) + timedelta(seconds=delay)  # APScheduler's own clock, which cannot be replaced
            self._add(name, stream, trigger=DateTrigger(at, timezone=UTC), check=True)

    def _add(self, name: str, stream: StreamSettings, *, trigger: BaseTrigger, check: bool) -> None:
        self._scheduler.add_job(
            self._fire,
            trigger,
            kwargs={"name": name, "stream": stream, "check": check},
            id=f"{'check' if check else 'regular'}:{name}:{stream.name}",
            executor="training" if name == "retrain" else "quick",
            replace_existing=True,
            coalesce=True,
            max_instances=1,
            misfire_grace_time=_MISFIRE_GRACE_S,
        )

    def _fire(self, *, name: str, stream: StreamSettings, check: bool) -> None:
        with self._idle:
            self._running += 1
        try:
            outcome = self._run(name, stream, check=check)
            if outcome is not None and outcome.retry_after_s is not None:
                self._check_later(name, stream, delay=outcome.retry_after_s)
        except Unavailable as error:
            self._postpone(name, stream, error)
        else:
            self._failures.pop(f"{name}:{stream.name}", None)
        finally:
            with self._idle:
                self._running -= 1
                self._idle.notify_all()

    def _run(self, name: str, stream: StreamSettings, *, check: bool) -> JobOutcome | None:
        if self._halt.is_set() or (check and not self._is_due(name, stream)):
            return None
        return run_job(name, stream=stream, ports=self._ports, stop=self._halt)

    def _is_due(self, name: str, stream: StreamSettings) -> bool:
        now = self._ports.clock.now()
        close_dead_runs(name, stream.name, ports=self._ports, now=now)
        runs = self._ports.store.jobs.runs(stream=stream.name, job=name, limit=RUNS_NEEDED)
        return is_due(schedules(stream)[name], runs, now=now, next_fire=next_fire)

    def _postpone(self, name: str, stream: StreamSettings, error: Unavailable) -> None:
        attempt = self._failures[f"{name}:{stream.name}"] = self._failures.get(f"{name}:{stream.name}", 0) + 1
        if worth_saying(attempt):
            logger.warning(
                "%s of %s waits, try %d: %s", name, stream.name, attempt, error, extra={"action": "job_postponed"}
            )
        self._check_later(name, stream, delay=delay_s(attempt, rng=self._rng))

    def _listen(self, event: SchedulerEvent) -> None:
        """A run that did not happen, or a defect of this file: said and counted."""
        status = {EVENT_JOB_ERROR: "failed", EVENT_JOB_MISSED: "missed", EVENT_JOB_MAX_INSTANCES: "overlapped"}[
            event.code
        ]
        _, name, stream = event.job_id.split(":", 2)
        self._ports.metrics.increment(JOB_RUNS, stream=stream, job_name=name, status=status)
        cause = getattr(event, "exception", None)
        logger.warning(
            "%s of %s %s%s", name, stream, status, f": {cause}" if cause else "",
            extra={"action": "job_not_run", "status": status},
        )  # fmt: skip
