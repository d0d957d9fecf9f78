"""The pipeline's transaction on both databases: every numbered step fails once, and nothing is seen of it."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
import sqlalchemy as sa

from monitor.errors import OffsetConflict, StoreError, StoreUnavailable
from monitor.store import Store, open_store
from monitor.store.pipeline_store import SqlPipelineStore
from monitor.store.tables import anomalies, dead_letters, incidents, offsets, samples, window_stats
from tests.store_builders import (
    NOW,
    P0,
    P1,
    add_model,
    anomaly,
    dead_letter,
    everything,
    full_outcome,
    outcome,
    part,
    rows,
    sample,
)

STEPS = ["offsets", "incidents", "anomalies", "dead_letters", "samples", "window_stats", "commit"]


class PowerCutError(RuntimeError):
    """The process dies here."""


class FailOnce:
    """Raises at one step, the first time only."""

    def __init__(self, step: str, error: Exception) -> None:
        self._step = step
        self._error: Exception | None = error
        self.seen: list[str] = []

    def __call__(self, step: str) -> None:
        """See ``SqlPipelineStore``."""
        self.seen.append(step)
        if step == self._step and self._error is not None:
            error, self._error = self._error, None
            raise error


def pipeline(store: Store, on_step: Callable[[str], None] = lambda _step: None) -> SqlPipelineStore:
    """The pipeline store at a fixed time."""
    return SqlPipelineStore(store.database, now=lambda: NOW, on_step=on_step)


@pytest.fixture
def store(store: Store) -> Store:
    """With a model, and the two partitions claimed."""
    add_model(store)
    pipeline(store).claim("s", {P0: 0, P1: 5})
    return store


@pytest.fixture
def other(store: Store, store_url: str) -> Iterator[Store]:
    """The store as another process sees it."""
    with open_store(store_url) as opened:
        yield opened


class TestAtomicity:
    def test_write_takes_the_steps_in_their_order(self, store: Store) -> None:
        """As its docstring numbers them."""
        steps: list[str] = []
        pipeline(store, steps.append).write(full_outcome())
        assert steps == [*STEPS, "committed"]

    @pytest.mark.parametrize("step", STEPS)
    def test_write_leaves_nothing_when_a_step_fails(self, store: Store, other: Store, step: str) -> None:
        """And writing again gives the rows of an undisturbed run."""
        before = everything(other)
        subject = pipeline(store, FailOnce(step, PowerCutError()))
        with pytest.raises(PowerCutError):
            subject.write(full_outcome())
        assert everything(other) == before
        subject.write(full_outcome())
        self.assert_complete(other)

    def test_write_happened_when_only_the_answer_was_lost(
        self, store: Store, other: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The connection dies in the commit: the caller cannot know, the compare-and-set does."""
        dialect = store.database._engine.dialect
        driver_error: type[Exception] = dialect.loaded_dbapi.OperationalError
        commit = dialect.do_commit

        def commit_then_die(connection: Any) -> None:
            commit(connection)
            monkeypatch.undo()
            error = driver_error("server closed the connection unexpectedly")
            error.__dict__["sqlite_errorcode"] = sqlite3.SQLITE_IOERR
            raise error

        subject = pipeline(store)
        monkeypatch.setattr(dialect, "do_commit", commit_then_die)
        with pytest.raises(StoreUnavailable):
            subject.write(full_outcome())
        assert subject.claim("s", {P0: 0, P1: 5}) == {P0: 10, P1: 9}
        with pytest.raises(OffsetConflict):
            subject.write(full_outcome())
        self.assert_complete(other)

    def test_write_tries_again_when_the_database_breaks_a_deadlock(self, store: Store, other: Store) -> None:
        """The victim of a deadlock is no outage; the transaction runs again as a whole."""
        deadlock = type("Deadlock", (Exception,), {"sqlstate": "40P01"})()
        error = sa.exc.OperationalError("UPDATE", {}, deadlock)
        hook = FailOnce("window_stats", error)
        pipeline(store, hook).write(full_outcome())
        assert hook.seen.count("offsets") == 2
        self.assert_complete(other)

    def test_write_conflicts_when_a_zombie_comes_back(self, store: Store, other: Store) -> None:
        """A worker that slept through a rebalance cannot write, whatever it believes to own."""
        pipeline(other).write(full_outcome())
        before = everything(other)
        with pytest.raises(OffsetConflict) as caught:
            pipeline(store).write(outcome(part(0, 10, anomalies=[anomaly(1)]), part(5, 6, partition=P1)))
        assert caught.value.partitions == {P0, P1}
        assert everything(other) == before

    def test_write_says_so_loudly_when_offsets_were_set_back(
        self, store: Store, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The second belt holds, and somebody hears of it."""
        pipeline(store).write(full_outcome())
        with store.database.write() as connection:
            connection.execute(sa.update(offsets).where(offsets.c.partition == 0).values(next_offset=0))
        with caplog.at_level(logging.ERROR):
            pipeline(store).write(full_outcome().without({P1}))
        assert {record.__dict__["action"] for record in caplog.records} == {"duplicate_results"}
        assert len(rows(store, anomalies)) == 3

    def assert_complete(self, store: Store) -> None:
        """All rows of the full outcome, each once."""
        found = everything(store)
        key = ("partition", "record_offset")
        assert [tuple(row[name] for name in key) for row in found["anomalies"]] == [(0, 1), (0, 2), (1, 6)]
        assert [tuple(row[name] for name in key) for row in found["dead_letters"]] == [(0, 3), (1, 7)]
        assert [tuple(row[name] for name in key) for row in found["samples"]] == [(0, 4), (1, 8)]
        assert [(row["partition"], row["next_offset"]) for row in found["offsets"]] == [(0, 10), (1, 9)]
        assert {(row["fingerprint"], row["anomaly_count"]) for row in found["incidents"]} == {
            ("low/0", 2),
            ("high/1", 1),
        }
        (window,) = found["window_stats"]
        assert (window["n_records"], window["n_anomalies"], window["n_invalid"], window["n_tombstones"]) == (6, 3, 2, 2)


class TestIncidents:
    def test_write_groups_by_fingerprint(self, store: Store) -> None:
        """Count, first and last event, worst severity and ratio; the anomalies point at it."""
        mild = anomaly(1, severity="low", score_ratio=1.1)
        worst = anomaly(2, severity="critical", score_ratio=4.0)
        pipeline(store).write(outcome(part(0, 9, anomalies=[mild, worst, anomaly(3, fingerprint="high/1")])))
        first, second = sorted(rows(store, incidents), key=lambda row: row["fingerprint"])
        assert (first["fingerprint"], second["fingerprint"]) == ("high/1", "low/0")
        assert (second["severity"], second["max_score_ratio"], second["anomaly_count"]) == ("critical", 4.0, 2)
        assert second["first_seen"] == NOW + timedelta(seconds=1)
        assert second["last_seen"] == NOW + timedelta(seconds=2)
        ids = {row["record_offset"]: row["incident_id"] for row in rows(store, anomalies)}
        assert ids == {1: second["id"], 2: second["id"], 3: first["id"]}

    def test_write_joins_the_incident_of_an_earlier_batch(self, store: Store) -> None:
        """It grows; a milder anomaly does not soften it, and a late one moves its beginning."""
        pipeline(store).write(outcome(part(0, 9, anomalies=[anomaly(5, severity="critical")])))
        late = anomaly(9, severity="low", event_time=NOW - timedelta(hours=1), score_ratio=1.1)
        pipeline(store).write(outcome(part(9, 10, anomalies=[late])))
        (incident,) = rows(store, incidents)
        assert (incident["anomaly_count"], incident["severity"], incident["max_score_ratio"]) == (2, "critical", 1.5)
        assert incident["first_seen"] == NOW - timedelta(hours=1)
        assert incident["last_seen"] == NOW + timedelta(seconds=5)

    @pytest.mark.parametrize(("status", "expected"), [("acknowledged", 1), ("snoozed", 1), ("resolved", 2)])
    def test_write_opens_a_new_incident_only_after_the_old_one_is_resolved(
        self, store: Store, status: str, expected: int
    ) -> None:
        """What somebody works on goes on under the same number."""
        pipeline(store).write(outcome(part(0, 9, anomalies=[anomaly(1)])))
        with store.database.write() as connection:
            connection.execute(sa.update(incidents).values(status=status))
        pipeline(store).write(outcome(part(9, 10, anomalies=[anomaly(9)])))
        found = rows(store, incidents)
        assert len(found) == expected
        assert found[0]["status"] == status

    def test_write_counts_right_when_two_workers_feed_one_incident(self, store: Store, other: Store) -> None:
        """Many batches at once on two partitions, with fingerprints in opposite orders."""
        barrier = Barrier(2)
        n_batches = 10

        def feed(opened: Store, partition: Any, start: int, prints: list[str]) -> None:
            subject = pipeline(opened)
            barrier.wait(timeout=30)
            for number in range(start, start + n_batches):
                flagged = [anomaly(number, partition=partition, fingerprint=prints[number % 2])]
                subject.write(outcome(part(number, number + 1, partition=partition, anomalies=flagged)))

        with ThreadPoolExecutor(2) as pool:
            tasks = [
                pool.submit(feed, store, P0, 0, ["a", "b"]),
                pool.submit(feed, other, P1, 5, ["b", "a"]),
            ]
            for task in tasks:
                task.result()
        assert sum(row["anomaly_count"] for row in rows(store, incidents)) == 2 * n_batches
        assert len(rows(store, incidents)) == 2
        (window,) = rows(store, window_stats)
        assert (window["n_records"], window["n_anomalies"]) == (6 * n_batches, 2 * n_batches)


class TestWindowStats:
    def test_write_merges_what_two_batches_add_to_a_minute(self, store: Store) -> None:
        """Counts add up, quantiles are those of all scores, the lag is the greatest."""
        pipeline(store).write(outcome(part(0, 9, scores=[1.0] * 50, lag=9)))
        pipeline(store).write(outcome(part(9, 10, scores=[100.0] * 49 + [250.0], lag=2)))
        (window,) = rows(store, window_stats)
        assert (window["n_records"], window["lag"], window["score_max"]) == (100, 9, 250.0)
        assert window["score_p50"] == pytest.approx(1.0, rel=0.01)
        assert window["score_p90"] == pytest.approx(100.0, rel=0.01)
        assert window["latency_p50"] == pytest.approx(0.25, rel=0.01)

    def test_write_has_no_quantiles_when_nothing_was_scored(self, store: Store) -> None:
        """NULL, not zero."""
        pipeline(store).write(outcome(part(0, 9, scores=[])))
        (window,) = rows(store, window_stats)
        assert (window["n_records"], window["score_p50"], window["score_max"]) == (0, None, None)


class TestSamples:
    def test_write_keeps_the_table_bounded(self, store: Store) -> None:
        """The newest stay, and of each class those with the smallest keys."""
        subject = pipeline(store)
        subject.limit_samples("s", recent=10, reservoir_per_class=2)
        for number in range(50):
            kept = sample(
                number,
                kept_at=NOW + timedelta(seconds=number),
                predicted_class="even" if number % 2 == 0 else "odd",
                reservoir_key=number / 100,
            )
            subject.write(outcome(part(number, number + 1, samples=[kept])))
        assert {row["record_offset"] for row in rows(store, samples)} == {0, 1, 2, 3, *range(40, 50)}


class TestRedrive:
    def test_write_redrive_writes_results_and_marks_the_letters(self, store: Store) -> None:
        """Offsets stay where they are."""
        pipeline(store).write(outcome(part(0, 9, dead_letters=[dead_letter(3), dead_letter(4)])))
        first, second = rows(store, dead_letters)
        pipeline(store).write_redrive(outcome(part(0, 0, anomalies=[anomaly(3)])), [first["id"]])
        assert [row["redriven_at"] for row in rows(store, dead_letters)] == [NOW, None]
        assert [row["record_offset"] for row in rows(store, anomalies)] == [3]
        assert pipeline(store).next_offsets("s") == {P0: 9, P1: 5}
        assert second["id"] != first["id"]

    @pytest.mark.parametrize("step", ["redriven", *STEPS[1:]])
    def test_write_redrive_leaves_nothing_when_a_step_fails(self, store: Store, other: Store, step: str) -> None:
        """The mark and the results are one."""
        pipeline(store).write(outcome(part(0, 9, dead_letters=[dead_letter(3)])))
        before = everything(other)
        (letter,) = before["dead_letters"]
        subject = pipeline(store, FailOnce(step, PowerCutError()))
        redriven = outcome(part(0, 0, anomalies=[anomaly(3)], samples=[sample(3)]))
        with pytest.raises(PowerCutError):
            subject.write_redrive(redriven, [letter["id"]])
        assert everything(other) == before
        subject.write_redrive(redriven, [letter["id"]])
        assert len(rows(other, anomalies)) == 1

    def test_write_redrive_happens_once(self, store: Store) -> None:
        """The second one is told, and writes nothing."""
        pipeline(store).write(outcome(part(0, 9, dead_letters=[dead_letter(3), dead_letter(4)])))
        first, second = (row["id"] for row in rows(store, dead_letters))
        pipeline(store).write_redrive(outcome(part(0, 0, anomalies=[anomaly(3)])), [first])
        before = everything(store)
        with pytest.raises(StoreError, match="redriven meanwhile"):
            pipeline(store).write_redrive(outcome(part(0, 0, anomalies=[anomaly(4)])), [first, second])
        assert everything(store) == before
