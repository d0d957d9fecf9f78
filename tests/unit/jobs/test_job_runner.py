"""Around any job: lease, row, outcome, metric; every way to end leaves a finished row."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from monitor.errors import LeaseLost, NotFound, StoreUnavailable
from monitor.jobs import catalogue
from monitor.jobs.base import Job, JobCancelled, JobOutcome, JobPorts, JobScope, holder, lease_name
from monitor.jobs.runner import run_job
from monitor.metrics import Counter
from monitor.store import Store, open_store
from tests.builders import FakeClock


class Counted:
    """Remembers what was counted."""

    def __init__(self) -> None:
        self.statuses: list[str] = []

    def increment(self, counter: Counter, amount: float = 1, *, stream: str, **labels: str) -> None:
        """Note the status."""
        self.statuses.append(labels["status"])

    def set(self, *_: Any, **__: Any) -> None:
        """Forget."""

    def observe(self, *_: Any, **__: Any) -> None:
        """Forget."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty database."""
    with open_store(f"sqlite:///{tmp_path}/jobs.db") as opened:
        yield opened


@pytest.fixture
def ports(store: Store) -> JobPorts:
    """The world, with time that moves when told to."""
    return JobPorts(store, SimpleNamespace(), FakeClock(), Counted())  # type: ignore[arg-type]


GAS: Any = SimpleNamespace(name="gas")


def run(job: Job, ports: JobPorts, monkeypatch: pytest.MonkeyPatch, **options: Any) -> JobOutcome:
    """Run ``job`` under the name recalibrate."""
    monkeypatch.setattr(catalogue, "JOBS", {"recalibrate": job})
    return run_job("recalibrate", stream=GAS, ports=ports, stop=options.pop("stop", threading.Event()), **options)


def test_run_job_notes_the_run_when_it_succeeds(ports: JobPorts, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row has status, detail, times and holder; the lease is free again; the metric counts it."""
    outcome = run(lambda _: JobOutcome("succeeded", "done", {"n": 3}), ports, monkeypatch)

    (row,) = ports.store.jobs.runs()
    lease = ports.store.jobs.lease(lease_name("gas", "recalibrate"))
    assert outcome.status == row.status == "succeeded"
    assert row.detail == {"message": "done", "n": 3}
    assert (row.holder, row.finished_at) == (holder(), ports.clock.now())
    assert lease is not None
    assert lease.holder == ""
    assert ports.metrics.statuses == ["succeeded"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (ValueError("two\nlines"), {"error": "ValueError: two lines"}),
        (LeaseLost("lost"), {"error": "lost"}),
        (JobCancelled("the process was asked to end"), {"error": "the process was asked to end", "interrupted": True}),
        (StoreUnavailable("away"), {"error": "away", "interrupted": True}),
    ],
)
def test_run_job_finishes_the_row_when_the_job_raises(
    error: Exception, detail: dict[str, Any], ports: JobPorts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line of the cause stays in the row; the caller gets an outcome, not an exception."""

    def fail(_: JobScope) -> JobOutcome:
        raise error

    outcome = run(fail, ports, monkeypatch)

    (row,) = ports.store.jobs.runs()
    assert outcome.status == row.status == "failed"
    assert {key: row.detail[key] for key in detail} == detail


def test_run_job_skips_when_another_holds_the_lease(ports: JobPorts, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says since when and by whom; no row is written."""
    now = ports.clock.now()
    assert ports.store.jobs.acquire(lease_name("gas", "recalibrate"), holder="other:7", ttl_s=60, now=now)
    ports.store.jobs.start_run("recalibrate", "gas", holder="other:7", now=now)

    outcome = run(lambda _: pytest.fail("ran"), ports, monkeypatch)

    assert outcome.status == "skipped"
    assert outcome.message == f"running since {now.isoformat(timespec='seconds')} by other:7"
    assert len(ports.store.jobs.runs()) == 1


def test_run_job_closes_the_run_of_a_dead_holder(ports: JobPorts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lease has expired, so its row can be finished: as interrupted, worth doing again."""
    ports.store.jobs.acquire(lease_name("gas", "recalibrate"), holder="dead:7", ttl_s=30, now=ports.clock.now())
    ports.store.jobs.start_run("recalibrate", "gas", holder="dead:7", now=ports.clock.now())
    ports.clock.sleep(31)

    run(lambda _: JobOutcome("succeeded", "done"), ports, monkeypatch)

    newest, dead = ports.store.jobs.runs()
    assert (newest.status, dead.status) == ("succeeded", "failed")
    assert dead.detail == {"error": "dead:7 ended before the run did", "interrupted": True}


def test_run_job_tells_the_job_when_the_caller_wants_to_stop(ports: JobPorts, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scope's check raises."""
    stop = threading.Event()

    def job(scope: JobScope) -> JobOutcome:
        scope.check()
        stop.set()
        scope.check()
        pytest.fail("went on")

    outcome = run(job, ports, monkeypatch, stop=stop)

    assert outcome.message == "the process was asked to end"


def test_run_job_tells_the_job_when_the_lease_is_lost(ports: JobPorts, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keeper's next renewal fails; what the job would write is refused anyway."""

    def job(scope: JobScope) -> JobOutcome:
        scope.ports.store.jobs.release(scope.lease)
        patience = threading.Event()
        while scope.cancellation.reason is None:
            patience.wait(0.01)
        scope.check()
        pytest.fail("went on")

    outcome = run(job, ports, monkeypatch, ttl_s=0.3)

    assert "was lost" in outcome.message


def test_run_job_names_the_jobs_when_there_is_no_such(ports: JobPorts) -> None:
    """A typing error is answered with what there is."""
    with pytest.raises(NotFound, match="There is: recalibrate, retrain, prune"):
        run_job("retrian", stream=GAS, ports=ports, stop=threading.Event())
