"""The pipeline: every numbered step fails once, and the rows are those of an undisturbed run."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitor.errors import OffsetsBeyondEnd, StoreUnavailable, Unavailable
from monitor.metrics import NoMetrics
from monitor.pipeline import Pipeline
from monitor.ports import PipelineStore
from monitor.records import BatchOutcome, TopicPartition
from monitor.store import Store, open_store
from tests.builders import FakeClock, LineScorer, payload, publish_champion, stream
from tests.fake_kafka import FakeRecordSource, FakeTopic

A, B = TopicPartition("numbers", 0), TopicPartition("numbers", 1)


class FlakyStore:
    """The store, with an outage before or after the next write."""

    def __init__(self, store: PipelineStore) -> None:
        self._store = store
        self.fail_before: int = 0
        self.fail_after: int = 0
        self.fail_claims: int = 0

    def claim(self, stream: str, starts: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Fails as often as told."""
        if self.fail_claims:
            self.fail_claims -= 1
            raise StoreUnavailable
        return self._store.claim(stream, starts)

    def next_offsets(self, stream: str) -> dict[TopicPartition, int]:
        """Never fails."""
        return self._store.next_offsets(stream)

    def write(self, outcome: BatchOutcome) -> None:
        """Fails before anything happened, or after everything did (the answer was lost)."""
        if self.fail_before:
            self.fail_before -= 1
            raise StoreUnavailable
        self._store.write(outcome)
        if self.fail_after:
            self.fail_after -= 1
            raise StoreUnavailable

    def record_gap(self, stream: str, partition: TopicPartition, *, expected: int, resumed_at: int) -> None:
        """Never fails."""
        self._store.record_gap(stream, partition, expected=expected, resumed_at=resumed_at)


class World:
    """A topic with two partitions, a store on disk, and as many workers as a test asks for."""

    def __init__(self, folder: Path) -> None:
        self.topic = FakeTopic("numbers", logs={0: [], 1: []})
        self.path = folder / "narrows.db"
        self.store: Store = open_store(f"sqlite:///{self.path}")
        self.champion = publish_champion(self.store)
        self.clock = FakeClock()

    def worker(
        self, source: FakeRecordSource | None = None, *, store: PipelineStore | None = None, **changes: Any
    ) -> Pipeline:
        """A pipeline on the topic; batches of at most four records."""
        return Pipeline(
            stream=stream(batch={"max_records": 4}), source=source or FakeRecordSource(self.topic),
            store=store or self.store.pipeline, champion=lambda: self.champion, clock=self.clock, metrics=NoMetrics(),
            **changes,
        )  # fmt: skip

    def drain(self, pipeline: Pipeline) -> None:
        """Step until nothing comes, recovering from outages as the worker does."""
        idle = 0
        while idle < 3:
            try:
                idle = idle + 1 if pipeline.step().idle else 0
            except Unavailable:
                pipeline.recover()
                idle = 0

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of the store."""
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(query).fetchall()

    def forget(self) -> None:
        """Empty what a run fills."""
        with closing(sqlite3.connect(self.path)) as connection:
            for table in ("anomalies", "incidents", "dead_letters", "samples", "window_stats", "offsets"):
                connection.execute(f"DELETE FROM {table}")
            connection.commit()

    def results(self) -> dict[str, list[tuple[Any, ...]]]:
        """All that must equal the undisturbed run."""
        return {
            "anomalies": self.rows(
                "SELECT partition, record_offset, score, threshold, nearest_class FROM anomalies ORDER BY 1, 2"
            ),
            "dead_letters": self.rows("SELECT partition, record_offset, reason FROM dead_letters ORDER BY 1, 2"),
            "counts": self.rows("SELECT sum(n_records), sum(n_anomalies), sum(n_invalid) FROM window_stats"),
            "samples": self.rows("SELECT partition, record_offset, score FROM samples ORDER BY 1, 2"),
            "offsets": self.rows("SELECT partition, next_offset FROM offsets ORDER BY 1"),
        }


def fill(topic: FakeTopic) -> None:
    """Known, unknown, invalid and null records on both partitions."""
    values = [payload([0, 0]), payload([0, 7]), b"{", None, payload([10, 10]), payload([10, 13]), payload([1, 1])]
    topic.produce(values * 2, partition=0)
    topic.produce(values[::-1], partition=1)


EXPECTED: dict[str, list[tuple[Any, ...]]] = {
    "counts": [(15, 6, 3)],
    "dead_letters": [(0, 2, "invalid-json"), (0, 9, "invalid-json"), (1, 4, "invalid-json")],
    "offsets": [(0, 14), (1, 7)],
    "anomalies": [
        (0, 1, 8.0, 3.0, "low"), (0, 5, 4.0, 2.0, "high"), (0, 8, 8.0, 3.0, "low"), (0, 12, 4.0, 2.0, "high"),
        (1, 1, 4.0, 2.0, "high"), (1, 5, 8.0, 3.0, "low"),
    ],
}  # fmt: skip


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A filled topic and an empty store."""
    found = World(tmp_path)
    fill(found.topic)
    yield found
    found.store.close()


def assert_exact(world: World) -> None:
    """The rows are those of an undisturbed run, worked out by hand."""
    found = world.results()
    assert {name: found[name] for name in EXPECTED} == EXPECTED
    assert len(found["samples"]) == 15


def test_step_writes_everything_once(world: World) -> None:
    """An undisturbed run."""
    source = FakeRecordSource(world.topic)
    world.drain(world.worker(source))
    assert_exact(world)
    assert source.committed == {A: 14, B: 7}


def test_step_reports_what_it_did(world: World) -> None:
    """The first poll only finds the partitions; the second brings four records."""
    pipeline = world.worker()
    assert pipeline.step().idle
    report = pipeline.step()
    assert (report.n_records, report.n_anomalies, report.n_dead_letters, report.n_tombstones) == (2, 1, 1, 1)


@pytest.mark.parametrize("failing", ["poll", "claim", "write-before", "write-after", "every-step-in-turn"])
def test_step_is_exact_when_a_step_fails(world: World, failing: str) -> None:
    """Step 1, 2 or 4 fails, before or after it took effect: the next step begins from the stored offsets."""
    source, store = FakeRecordSource(world.topic), FlakyStore(world.store.pipeline)
    pipeline = world.worker(source, store=store)
    for _ in range(30):
        source.down = failing in {"poll", "every-step-in-turn"}
        with pytest.raises(Unavailable) if source.down else nullcontext():
            pipeline.step()
        source.down = False
        store.fail_claims = int(failing in {"claim", "every-step-in-turn"})
        store.fail_before = int(failing in {"write-before", "every-step-in-turn"})
        store.fail_after = int(failing in {"write-after", "every-step-in-turn"})
        pipeline.recover()
        for _ in range(4):
            try:
                pipeline.step()
            except Unavailable:
                pipeline.recover()
    store.fail_claims = store.fail_before = store.fail_after = 0
    world.drain(pipeline)
    assert_exact(world)


@pytest.mark.parametrize(
    "step", ["offsets", "incidents", "anomalies", "dead_letters", "samples", "window_stats", "commit", "committed"]
)
def test_write_is_exact_when_it_dies_inside_the_transaction(tmp_path: Path, step: str) -> None:
    """Every numbered step of the transaction fails once: all of it or nothing is there."""
    world = World(tmp_path)
    fill(world.topic)
    armed = [True, True, True]

    def die(name: str) -> None:
        if name == step and armed:
            armed.pop()
            raise StoreUnavailable

    world.store.pipeline._on_step = die  # the seam for tests of SqlPipelineStore
    world.drain(world.worker())
    assert not armed
    assert_exact(world)
    world.store.close()


def test_step_drops_what_another_worker_took(world: World) -> None:
    """A zombie polls on: its write meets the moved offset, and not one of its rows is written."""
    zombie = world.worker()
    zombie.step()
    world.drain(world.worker())
    world.drain(zombie)
    assert_exact(world)


def test_step_writes_the_rest_when_one_partition_was_taken(world: World) -> None:
    """Only what belongs to the other worker is dropped."""
    both, only_b = world.worker(), world.worker(FakeRecordSource(world.topic, assigned=[1]))
    both.step()
    world.drain(only_b)
    both._stream.batch.__dict__["max_records"] = 100  # one batch over both partitions
    report = both.step()
    assert report.n_records == 10
    world.drain(both)
    assert_exact(world)


def test_step_reads_the_stored_offset_when_a_partition_comes_back(world: World) -> None:
    """Revoked and given back between two polls, while another worker moved on."""
    source = FakeRecordSource(world.topic)
    pipeline = world.worker(source)
    pipeline.step()
    pipeline.step()
    world.drain(world.worker(FakeRecordSource(world.topic, assigned=[0])))
    source.bounce(0)
    world.drain(pipeline)
    assert_exact(world)


def test_partitions_added_while_running_are_read_from_their_beginning(world: World) -> None:
    """A third partition appears."""
    source = FakeRecordSource(world.topic)
    pipeline = world.worker(source)
    world.drain(pipeline)
    world.topic.produce([payload([0, 7])], partition=2)
    source.assign([0, 1, 2])
    world.drain(pipeline)
    assert world.rows("SELECT next_offset FROM offsets WHERE partition = 2") == [(1,)]
    assert len(world.results()["anomalies"]) == 7


def test_start_latest_begins_at_the_end_and_stays_there_after_a_restart(world: World) -> None:
    """The start is stored at once, so records that come while the worker is down are not skipped."""
    world.worker(start_latest=True).step()
    world.topic.produce([payload([0, 7])], partition=0)
    world.drain(world.worker(start_latest=True))
    assert world.results()["anomalies"] == [(0, 14, 8.0, 3.0, "low")]


def test_a_range_lost_to_retention_is_counted_and_stored(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Never a silent reset: the gap is a row and a log line with its range."""
    pipeline = world.worker()
    pipeline.step()
    world.topic.delete_before(9)
    world.drain(pipeline)
    assert world.rows("SELECT partition, from_offset, to_offset FROM offset_gaps") == [(0, 0, 9)]
    assert "offsets 0 to 8" in caplog.text
    assert world.rows("SELECT next_offset FROM offsets ORDER BY partition") == [(14,), (7,)]


def test_a_gap_that_another_worker_noted_first_is_noted_once(world: World) -> None:
    """The slower worker forgets the partition and reads the stored offset."""
    slow = world.worker()
    slow.step()
    world.topic.delete_before(9)
    world.drain(world.worker(FakeRecordSource(world.topic, assigned=[0])))
    world.drain(slow)
    assert world.rows("SELECT partition, from_offset, to_offset FROM offset_gaps") == [(0, 0, 9)]
    assert world.rows("SELECT next_offset FROM offsets ORDER BY partition") == [(14,), (7,)]


def test_a_topic_made_anew_ends_the_worker(world: World) -> None:
    """A stored offset beyond the end is a person's decision."""
    world.drain(world.worker())
    world.topic.logs[0] = world.topic.logs[0][:3]
    pipeline = world.worker()
    pipeline.step()
    with pytest.raises(OffsetsBeyondEnd, match="ends at offset 3, but the store has handled it up to 14"):
        pipeline.step()


def test_a_batch_is_scored_at_once(world: World) -> None:
    """All partitions of a poll go through the encoder together."""
    scorer = LineScorer()
    pipeline = Pipeline(
        stream=stream(), source=FakeRecordSource(world.topic), store=world.store.pipeline,
        champion=lambda: replace(world.champion, scorer=scorer), clock=world.clock, metrics=NoMetrics(),
    )  # fmt: skip
    world.drain(pipeline)
    assert scorer.batches == [15]


EVENTS = ["step", "step", "step", "other", "bounce", "swap", "down", "lost-answer", "lost-write", "restart"]


@given(actions=st.lists(st.sampled_from(EVENTS), max_size=25))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_order_of_events_ends_with_the_same_rows(world: World, actions: list[str]) -> None:
    """Two workers, rebalances, outages and restarts in any order: exactly the rows of an undisturbed run."""
    world.forget()
    sources = [FakeRecordSource(world.topic, assigned=[0]), FakeRecordSource(world.topic, assigned=[1])]
    store = FlakyStore(world.store.pipeline)
    workers = [world.worker(source, store=store) for source in sources]
    for action in actions:
        _act(action, world, sources, store, workers)
    store.fail_before = store.fail_after = 0
    for worker in [*workers, *workers]:
        world.drain(worker)
    assert_exact(world)


def _act(
    action: str, world: World, sources: list[FakeRecordSource], store: FlakyStore, workers: list[Pipeline]
) -> None:
    if action == "bounce":
        for source in sources:
            for partition in list(source._positions):
                source.bounce(partition.partition)
    elif action == "swap":  # the second still holds what the first gets: both read it until their next poll
        first, second = ([partition.partition for partition in source._positions] for source in sources)
        sources[0].assign(second)
        sources[1].assign(first)
    elif action == "restart":
        workers[0] = world.worker(sources[0], store=store)
    elif action in {"lost-answer", "lost-write"}:
        setattr(store, "fail_after" if action == "lost-answer" else "fail_before", 1)
    else:
        worker, source = (workers[1], sources[1]) if action == "other" else (workers[0], sources[0])
        source.down = action == "down"
        try:
            worker.step()
        except Unavailable:
            worker.recover()
        source.down = False
