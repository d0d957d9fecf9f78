"""Is a job due, by what its past runs say? Pure: runs and time are arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import takewhile
from typing import TYPE_CHECKING

from monitor.jobs.base import INTERRUPTED

if TYPE_CHECKING:
    from monitor.settings_types import Schedule
    from monitor.store.rows import JobRun

#: Runs cut off in a row after which a job waits for its regular time: it may be the job that kills its process.
MAX_INTERRUPTED = 3
#: How many runs a decision looks at.
RUNS_NEEDED = MAX_INTERRUPTED

#: First fire of a schedule later than a time; None when it never fires.
NextFire = Callable[["Schedule", datetime], datetime | None]


def next_due(schedule: Schedule, runs: Sequence[JobRun], *, now: datetime, next_fire: NextFire) -> datetime | None:
    """When the job should run next; ``now`` when it should have run already.

    A job that never ran is due if it runs by interval; by cron it waits for its time (nobody wants the nightly
    training when the service is first switched on). A run that was cut off is due again, up to ``MAX_INTERRUPTED``
    times.

    Args:
        schedule: Of the job.
        runs: Its runs, newest first, at least the ``RUNS_NEEDED`` newest.
        now: Current time.
        next_fire: Knows calendars.
    """
    if not schedule.enabled:
        return None
    if not runs:
        return now if schedule.interval is not None else next_fire(schedule, now)
    if 0 < interrupted_in_a_row(runs) < MAX_INTERRUPTED:
        return now
    expected = next_fire(schedule, runs[0].started_at)
    return None if expected is None else max(expected, now)


def is_due(schedule: Schedule, runs: Sequence[JobRun], *, now: datetime, next_fire: NextFire) -> bool:
    """Whether the job should run now; not while it runs."""
    if runs and runs[0].status == "running":
        return False
    due = next_due(schedule, runs, now=now, next_fire=next_fire)
    return due is not None and due <= now


def interrupted_in_a_row(runs: Sequence[JobRun]) -> int:
    """How many of the newest runs were cut off from outside, one after the other."""
    return len(list(takewhile(lambda run: bool(run.detail.get(INTERRUPTED)), runs)))
