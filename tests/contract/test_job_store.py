"""Leases with a fencing token, and the record of job runs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier

from monitor.store import Store
from monitor.store.rows import Lease

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = NOW + timedelta(seconds=31)


def acquired(store: Store, holder: str, *, now: datetime = NOW) -> Lease:
    """The lease, which must be free."""
    lease = store.jobs.acquire("scheduler", holder=holder, ttl_s=30, now=now)
    assert lease is not None
    return lease


class TestLease:
    def test_acquire_gives_the_lease_once(self, store: Store) -> None:
        """The second one waits until it expires."""
        assert acquired(store, "a:1").token == 1
        assert store.jobs.acquire("scheduler", holder="b:2", ttl_s=30, now=NOW) is None

    def test_acquire_gives_leases_of_other_names(self, store: Store) -> None:
        """A lease guards one thing."""
        acquired(store, "a:1")
        assert store.jobs.acquire("retrain:gas", holder="b:2", ttl_s=30, now=NOW) is not None

    def test_acquire_has_one_winner_when_many_race(self, store: Store) -> None:
        """For a new lease and for an expired one alike."""
        barrier = Barrier(4)

        def race(holder: str, now: datetime) -> Lease | None:
            barrier.wait(timeout=30)
            return store.jobs.acquire("scheduler", holder=holder, ttl_s=30, now=now)

        with ThreadPoolExecutor(4) as pool:
            for round_number in range(5):
                now = NOW + timedelta(minutes=round_number)
                tries = [pool.submit(race, f"h:{index}", now) for index in range(4)]
                winners = [lease for lease in (each.result() for each in tries) if lease]
                assert [lease.token for lease in winners] == [round_number + 1]
                row = store.jobs.lease("scheduler")
                assert row is not None
                assert row.holder == winners[0].holder

    def test_renew_moves_the_expiry(self, store: Store) -> None:
        """A busy holder keeps what it has."""
        lease = acquired(store, "a:1")
        assert store.jobs.renew(lease, ttl_s=30, now=NOW + timedelta(seconds=20))
        assert store.jobs.acquire("scheduler", holder="b:2", ttl_s=30, now=LATER) is None

    def test_renew_fails_for_the_old_holder_when_another_took_over(self, store: Store) -> None:
        """It must stop without writing."""
        old = acquired(store, "a:1")
        new = acquired(store, "b:2", now=LATER)
        assert new.token > old.token
        assert not store.jobs.renew(old, ttl_s=30, now=LATER)
        assert store.jobs.renew(new, ttl_s=30, now=LATER)

    def test_renew_succeeds_when_expired_but_not_taken(self, store: Store) -> None:
        """Late is not lost: the token decides."""
        assert store.jobs.renew(acquired(store, "a:1"), ttl_s=30, now=LATER)

    def test_release_frees_at_once_and_never_reuses_a_token(self, store: Store) -> None:
        """A clean stop hands over without waiting; the old token stays dead."""
        old = acquired(store, "a:1")
        store.jobs.release(old)
        assert not store.jobs.renew(old, ttl_s=30, now=NOW)
        assert acquired(store, "b:2").token > old.token

    def test_release_leaves_the_lease_of_another_alone(self, store: Store) -> None:
        """A zombie's goodbye frees nothing."""
        old = acquired(store, "a:1")
        acquired(store, "b:2", now=LATER)
        store.jobs.release(old)
        row = store.jobs.lease("scheduler")
        assert row is not None
        assert (row.holder, row.expires_at) == ("b:2", LATER + timedelta(seconds=30))

    def test_lease_is_none_when_nobody_ever_held_it(self, store: Store) -> None:
        """Shown by ``narrows jobs list``."""
        assert store.jobs.lease("scheduler") is None


class TestRuns:
    def test_runs_are_newest_first_and_filtered(self, store: Store) -> None:
        """What ``narrows jobs list`` prints."""
        for index, (job, stream) in enumerate([("retrain", "gas"), ("prune", "gas"), ("retrain", "digits")]):
            store.jobs.start_run(job, stream, holder="a:1", now=NOW + timedelta(seconds=index))
        assert [run.job for run in store.jobs.runs()] == ["retrain", "prune", "retrain"]
        assert [run.stream for run in store.jobs.runs(job="retrain")] == ["digits", "gas"]
        assert len(store.jobs.runs(stream="gas")) == 2
        assert len(store.jobs.runs(limit=1)) == 1

    def test_finish_run_keeps_status_and_detail(self, store: Store) -> None:
        """Detail is whatever the job has to say."""
        run_id = store.jobs.start_run("retrain", "gas", holder="a:1", now=NOW)
        assert store.jobs.runs()[0].status == "running"
        store.jobs.finish_run(run_id, status="rejected", detail={"why": ["auroc"], "n": 3}, now=LATER)
        run = store.jobs.runs()[0]
        assert (run.id, run.status, run.finished_at) == (run_id, "rejected", LATER)
        assert run.detail == {"why": ["auroc"], "n": 3}

    def test_finish_run_leaves_a_finished_run_alone(self, store: Store) -> None:
        """A run that was declared dead does not rise."""
        run_id = store.jobs.start_run("retrain", "gas", holder="a:1", now=NOW)
        assert store.jobs.abandon_stale(now=LATER, started_before=LATER) == 1
        assert not store.jobs.finish_run(run_id, status="succeeded", detail={}, now=LATER)
        assert store.jobs.runs()[0].status == "failed"

    def test_abandon_stale_fails_old_runs_of_others_only(self, store: Store) -> None:
        """What a dead process left is told apart from what runs now."""
        store.jobs.start_run("retrain", "gas", holder="dead:1", now=NOW)
        store.jobs.start_run("retrain", "gas", holder="me:2", now=NOW)
        store.jobs.start_run("prune", "gas", holder="new:3", now=LATER)
        assert store.jobs.abandon_stale(now=LATER, started_before=LATER, except_holder="me:2") == 1
        states = {run.holder: run.status for run in store.jobs.runs()}
        assert states == {"dead:1": "failed", "me:2": "running", "new:3": "running"}
        failed = next(run for run in store.jobs.runs() if run.holder == "dead:1")
        assert failed.finished_at == LATER
        assert "dead:1" in failed.detail["error"]
