"""The scheduler: elected, followed when it dies, catching up, patient with a database that is away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from monitor.clock import SystemClock
from monitor.errors import StoreUnavailable
from monitor.jobs import catalogue
from monitor.jobs.base import Job, JobOutcome, JobScope, holder
from monitor.metrics import NoMetrics
from monitor.scheduler import LEASE, SchedulerService
from monitor.settings import Settings
from monitor.store import Store, open_store

SETTINGS = Settings.model_validate(
    {
        "streams": [
            {
                "name": "gas",
                "topic": "gas",
                "schema": {"dimension": 2},
                "schedule": {"recalibrate": "1h", "retrain": "cron: 0 3 * * *", "prune": "off"},
            }
        ]
    }
)
TTL_S = 1.5

PROCESS = """
import signal, sys, threading
from monitor.clock import SystemClock
from monitor.jobs import catalogue
from monitor.jobs.base import JobOutcome
from monitor.metrics import NoMetrics
from monitor.scheduler import SchedulerService
from monitor.store import open_store
from tests.integration.test_scheduler import SETTINGS, TTL_S

class Said(NoMetrics):
    def set(self, gauge, value, *, stream, **labels):
        print("leads" if value else "stands", flush=True)

stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
catalogue.JOBS = {"recalibrate": lambda scope: JobOutcome("succeeded", "done")}
with open_store(sys.argv[1]) as store:
    SchedulerService(SETTINGS, store, None, SystemClock(stop), Said(), stop, ttl_s=TTL_S, catch_up_after_s=0.0).run()
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A database of this test alone."""
    return f"sqlite:///{tmp_path}/narrows.db"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """It, open."""
    with open_store(url) as opened:
        yield opened


@pytest.fixture
def start(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., threading.Event]]:
    """Starts a scheduler in a thread with the jobs given; ends it, and insists that it ends."""
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def begin(jobs: dict[str, Job], *, opened: Any = store) -> threading.Event:
        monkeypatch.setattr(catalogue, "JOBS", jobs)
        ports: Any = (opened, None, SystemClock(stop), NoMetrics(), stop)
        service = SchedulerService(SETTINGS, *ports, ttl_s=TTL_S, catch_up_after_s=0.0)
        threads.append(threading.Thread(target=service.run))
        threads[-1].start()
        return stop

    yield begin
    stop.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def eventually(condition: Callable[[], bool], *, timeout_s: float = 15.0) -> bool:
    """Whether the condition comes true in time."""
    deadline, patience = time.monotonic() + timeout_s, threading.Event()
    while not condition() and time.monotonic() < deadline:
        patience.wait(0.02)
    return condition()


def succeeded(store: Store) -> int:
    """Recalibrations that succeeded."""
    return sum(run.status == "succeeded" for run in store.jobs.runs(job="recalibrate"))


def succeed(_: JobScope) -> JobOutcome:
    """A job without any work."""
    return JobOutcome("succeeded", "done")


def start_process(url: str) -> subprocess.Popen[str]:
    """A scheduler that prints whether it leads."""
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    return subprocess.Popen([sys.executable, "-c", PROCESS, url], stdout=subprocess.PIPE, text=True, env=environment)


def test_scheduler_is_followed_when_it_is_killed(url: str, store: Store) -> None:
    """One leads, one waits; SIGKILL, and the other leads within a time to live and a poll; SIGTERM ends it in order."""
    processes = [start_process(url), start_process(url)]
    assert [process.stdout.readline() for process in processes if process.stdout] == ["stands\n"] * 2
    assert eventually(lambda: bool((lease := store.jobs.lease(LEASE)) and lease.holder))
    lease = store.jobs.lease(LEASE)
    assert lease is not None
    leader, standby = sorted(processes, key=lambda process: not lease.holder.endswith(f":{process.pid}"))
    assert leader.stdout is not None
    assert leader.stdout.readline() == "leads\n"
    assert eventually(lambda: succeeded(store) == 1)

    leader.kill()
    killed_at = time.monotonic()
    assert standby.stdout is not None
    assert standby.stdout.readline() == "leads\n"
    took_s = time.monotonic() - killed_at
    standby.send_signal(signal.SIGTERM)

    assert standby.wait(10) == 0
    assert took_s < 2 * TTL_S + 3.0  # the second term is what a busy machine may add
    assert standby.stdout.read() == "stands\n"
    leader.communicate()
    standby.stdout.close()
    assert succeeded(store) == 1, "the follower repeated what had run in time"


def test_scheduler_runs_once_soon_what_was_missed(store: Store, start: Callable[..., threading.Event]) -> None:
    """Both jobs last ran two days ago; each is caught up exactly once."""
    for job in ("recalibrate", "retrain"):
        long_ago = datetime.now(UTC) - timedelta(days=2)
        store.jobs.finish_run(
            store.jobs.start_run(job, "gas", holder="h:1", now=long_ago), status="succeeded", detail={}, now=long_ago
        )

    start({"recalibrate": succeed, "retrain": succeed})

    assert eventually(lambda: len(store.jobs.runs()) == 4)
    assert not eventually(lambda: len(store.jobs.runs()) > 4, timeout_s=0.5)


def test_scheduler_does_not_repeat_what_ran_in_time(store: Store, start: Callable[..., threading.Event]) -> None:
    """A restart is no reason to run anything."""
    now = datetime.now(UTC)
    run_id = store.jobs.start_run("recalibrate", "gas", holder="h:1", now=now)
    store.jobs.finish_run(run_id, status="succeeded", detail={}, now=now)

    start({"recalibrate": succeed})

    assert not eventually(lambda: len(store.jobs.runs()) > 1, timeout_s=1.0)


def test_scheduler_recalibrates_while_it_retrains(store: Store, start: Callable[..., threading.Event]) -> None:
    """A training of hours delays nothing, and ends when the scheduler is told to."""
    training = threading.Event()
    long_ago = datetime.now(UTC) - timedelta(days=2)
    store.jobs.start_run("retrain", "gas", holder="dead:1", now=long_ago)

    def train(scope: JobScope) -> JobOutcome:
        training.set()
        while scope.cancellation.reason is None:
            threading.Event().wait(0.02)
        scope.check()
        raise AssertionError("not reached")

    def calibrate(_: JobScope) -> JobOutcome:
        return JobOutcome("succeeded" if training.wait(10) else "failed", "done")

    stop = start({"recalibrate": calibrate, "retrain": train})

    assert eventually(lambda: bool(store.jobs.runs(job="recalibrate")))
    assert eventually(lambda: store.jobs.runs(job="recalibrate")[0].status == "succeeded")
    assert store.jobs.runs(job="retrain")[0].status == "running"
    stop.set()
    assert eventually(lambda: store.jobs.runs(job="retrain")[0].status == "failed")
    assert store.jobs.runs(job="retrain")[0].detail["interrupted"] is True


def test_scheduler_waits_for_a_database_that_is_away(store: Store, start: Callable[..., threading.Event]) -> None:
    """It neither ends nor gives up; when the database is back, it leads."""
    failures = iter([True] * 3)

    def acquire(*args: Any, **options: Any) -> Any:
        if next(failures, False):
            raise StoreUnavailable
        return store.jobs.acquire(*args, **options)

    jobs = SimpleNamespace(
        acquire=acquire, renew=store.jobs.renew, release=store.jobs.release, lease=store.jobs.lease,
        runs=store.jobs.runs, start_run=store.jobs.start_run, finish_run=store.jobs.finish_run,
    )  # fmt: skip

    start({"recalibrate": succeed}, opened=SimpleNamespace(jobs=jobs))

    assert eventually(lambda: bool(store.jobs.runs()))
    lease = store.jobs.lease(LEASE)
    assert lease is not None
    assert lease.holder == holder()


def test_scheduler_tries_a_job_again_when_the_database_went_away_meanwhile(
    store: Store, start: Callable[..., threading.Event]
) -> None:
    """An outage of seconds at three in the morning must not cost the nightly training."""
    outages = iter([True])

    def acquire(name: str, **options: Any) -> Any:
        if name != LEASE and next(outages, False):
            raise StoreUnavailable
        return store.jobs.acquire(name, **options)

    jobs = SimpleNamespace(
        acquire=acquire, renew=store.jobs.renew, release=store.jobs.release, lease=store.jobs.lease,
        runs=store.jobs.runs, start_run=store.jobs.start_run, finish_run=store.jobs.finish_run,
    )  # fmt: skip

    start({"recalibrate": succeed}, opened=SimpleNamespace(jobs=jobs))

    assert eventually(lambda: bool(store.jobs.runs()))
