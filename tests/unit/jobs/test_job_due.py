"""When a job runs, by its schedule and its past; calendars included."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from monitor.cron import month_numbers, weekday_names
from monitor.jobs.due import MAX_INTERRUPTED, is_due, next_due
from monitor.scheduler import next_fire
from monitor.settings_types import Schedule, parse_schedule
from monitor.store.rows import JobRun

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)  # a Wednesday
HOURLY, NIGHTLY = parse_schedule("1h"), parse_schedule("cron: 0 3 * * *")


def run(hours_ago: float, *, status: str = "succeeded", interrupted: bool = False) -> JobRun:
    """A run that began so many hours ago."""
    started = NOW - timedelta(hours=hours_ago)
    return JobRun(1, "retrain", "gas", started, None, status, {"interrupted": True} if interrupted else {}, "host:1")


@pytest.mark.parametrize(
    ("schedule", "runs", "due"),
    [
        (HOURLY, [], True),
        (HOURLY, [run(0.5)], False),
        (HOURLY, [run(1.5)], True),
        (HOURLY, [run(5, status="running")], False),
        (HOURLY, [run(0.5, status="failed")], False),
        (NIGHTLY, [], False),
        (NIGHTLY, [run(8.9)], False),
        (NIGHTLY, [run(9.1)], True),
        (NIGHTLY, [run(1, status="failed", interrupted=True)], True),
        (NIGHTLY, [run(1, status="failed", interrupted=True)] * MAX_INTERRUPTED, False),
        (Schedule(), [run(9999)], False),
    ],
)
def test_is_due_says_whether_a_job_was_missed(schedule: Schedule, runs: list[JobRun], due: bool) -> None:
    """What should have run and did not is due; what kills its process again and again is not."""
    assert is_due(schedule, runs, now=NOW, next_fire=next_fire) is due


def test_next_due_is_the_regular_time_when_nothing_was_missed() -> None:
    """One interval after the last start."""
    assert next_due(HOURLY, [run(0.25)], now=NOW, next_fire=next_fire) == NOW + timedelta(minutes=45)


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("0 3 * * *", datetime(2026, 3, 5, 3, 0, tzinfo=UTC)),
        ("*/15 * * * *", datetime(2026, 3, 4, 12, 15, tzinfo=UTC)),
        ("0 0 * * 0", datetime(2026, 3, 8, tzinfo=UTC)),
        ("0 0 * * 7", datetime(2026, 3, 8, tzinfo=UTC)),
        ("0 0 * * sun", datetime(2026, 3, 8, tzinfo=UTC)),
        ("0 0 * * 1-5", datetime(2026, 3, 5, tzinfo=UTC)),
        ("0 0 * jan-jun/2 *", datetime(2026, 3, 5, tzinfo=UTC)),
        ("0 0 6 * sun", datetime(2026, 3, 6, tzinfo=UTC)),
        ("0 0 31 * fri", datetime(2026, 3, 6, tzinfo=UTC)),
        ("0 0 30 2 *", None),
    ],
)
def test_next_fire_reads_cron_as_cron_does(cron: str, expected: datetime | None) -> None:
    """Weekdays from Sunday; day and weekday both given mean either."""
    assert next_fire(parse_schedule(f"cron: {cron}"), NOW) == expected


def test_next_fire_is_later_when_asked_at_a_fire_time() -> None:
    """The time itself is past: a job that ran at three is not due at three."""
    at_three = NOW.replace(hour=3)

    assert next_fire(NIGHTLY, at_three) == at_three + timedelta(days=1)


@pytest.mark.parametrize(
    ("field", "names"),
    [
        ("*", ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
        ("*/3", ["sun", "wed", "sat"]),
        ("5-7", ["sun", "fri", "sat"]),
        ("mon,fri", ["mon", "fri"]),
    ],
)
def test_weekday_names_counts_from_sunday(field: str, names: list[str]) -> None:
    """0 and 7 are both Sunday."""
    assert weekday_names(field) == names


def test_month_numbers_expands_names_and_steps() -> None:
    """Ranges of names, steps and lists."""
    assert month_numbers("jan-mar,10/2") == [1, 2, 3, 10, 12]
