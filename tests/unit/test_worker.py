"""The worker's life: it backs off and goes on, catches up, stops when asked, and always leaves the group."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.errors import BrokerUnavailable, NotFound, OffsetsBeyondEnd, StoreUnavailable
from monitor.pipeline import Pipeline
from monitor.ports import RecordSource
from monitor.records import BatchOutcome
from monitor.store import Store, open_store
from monitor.worker import Worker
from tests.builders import FakeClock, RecordedMetrics, payload, publish_champion, stream
from tests.fake_kafka import FakeRecordSource, FakeTopic


class Setting:
    """A worker on a fake topic and a real store; ``unreachable`` is how often the broker refuses first."""

    def __init__(self, folder: Path) -> None:
        self.topic = FakeTopic("numbers", logs={0: [], 1: []})
        self.topic.produce([payload([0, 0])] * 10)
        self.store: Store = open_store(f"sqlite:///{folder / 'narrows.db'}")
        self.champion = publish_champion(self.store)
        self.clock, self.metrics, self.stop = FakeClock(), RecordedMetrics(), threading.Event()
        self.sources: list[FakeRecordSource] = []
        self.unreachable = 0

    def worker(self) -> Worker:
        """As ``wiring`` makes it."""
        return Worker(
            stream="s", open_source=self._open, build=self._build, store=self.store.pipeline, clock=self.clock,
            metrics=self.metrics, stop=self.stop,
        )  # fmt: skip

    def _open(self) -> RecordSource:
        if self.unreachable:
            self.unreachable -= 1
            raise BrokerUnavailable
        self.sources.append(FakeRecordSource(self.topic))
        return self.sources[-1]

    def _build(self, source: RecordSource) -> Pipeline:
        ticking = TickingSource(source, self.clock)
        return Pipeline(
            stream=stream(batch={"max_records": 3}), source=ticking, store=self.store.pipeline,
            champion=lambda: self.champion, clock=self.clock, metrics=self.metrics,
        )  # fmt: skip


class TickingSource:
    """Lets time pass with every poll."""

    def __init__(self, source: RecordSource, clock: FakeClock) -> None:
        self._source = source
        self._clock = clock

    def __getattr__(self, name: str) -> object:
        if name == "poll":
            self._clock.seconds += 0.1
        return getattr(self._source, name)


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    """Ten known records on the first of two partitions."""
    found = Setting(tmp_path)
    yield found
    found.store.close()


def test_run_until_caught_up_ends_at_the_end_seen_at_its_start(setting: Setting) -> None:
    """Progress is told, the source is closed, and the offsets are stored."""
    told: list[tuple[int, int]] = []
    setting.worker().run(until_caught_up=True, on_progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (10, 10)
    assert list(setting.store.pipeline.next_offsets("s").values()) == [10, 0]
    assert setting.sources[0].closed


def test_run_until_caught_up_of_an_empty_topic_ends_at_once(setting: Setting) -> None:
    """Nothing to do is done."""
    setting.topic.logs = {0: []}
    setting.worker().run(until_caught_up=True)


def test_run_until_caught_up_refuses_a_topic_that_does_not_exist(setting: Setting) -> None:
    """A typing error in the topic must not look like success."""
    setting.topic.logs = {}
    with pytest.raises(NotFound, match="does not exist"):
        setting.worker().run(until_caught_up=True)
    assert setting.sources[0].closed


def test_run_waits_for_a_broker_that_is_not_there_yet(setting: Setting) -> None:
    """It backs off, and then does its work."""
    setting.unreachable = 4
    setting.worker().run(until_caught_up=True)
    assert len(setting.clock.slept) == 4
    assert setting.metrics.counted["narrows_outages_total", "s", "broker"] == 1
    assert setting.metrics.counted["narrows_records_received_total", "s"] == 10


def test_an_outage_of_writes_alone_is_one_outage(setting: Setting) -> None:
    """Reading works (a standby, a locked file): the waits grow all the same, and it is counted once."""
    real, left = setting.store.pipeline.write, [StoreUnavailable()] * 6

    def write(outcome: BatchOutcome) -> None:
        if left:
            raise left.pop()
        real(outcome)

    setting.store.pipeline.write = write  # type: ignore[method-assign]
    setting.worker().run(until_caught_up=True)
    assert len(setting.clock.slept) == 6
    assert setting.clock.slept[5] > 2 * setting.clock.slept[0]
    assert setting.metrics.counted["narrows_outages_total", "s", "store"] == 1
    assert list(setting.store.pipeline.next_offsets("s").values()) == [10, 0]


def test_run_ends_without_a_broker_when_asked_to(setting: Setting) -> None:
    """The stop signal is heard while it waits."""
    setting.unreachable = 10**9
    threading.Timer(0.1, setting.stop.set).start()
    setting.worker().run()
    assert setting.sources == []


def test_run_stops_when_asked_and_leaves_the_group(setting: Setting) -> None:
    """The stop signal ends the loop after the batch."""
    threading.Timer(0.2, setting.stop.set).start()
    setting.worker().run()
    assert setting.sources[0].closed


def test_run_raises_what_waiting_does_not_mend(setting: Setting) -> None:
    """And still leaves the group."""
    setting.worker().run(until_caught_up=True)
    setting.topic.logs[0] = setting.topic.logs[0][:2]
    with pytest.raises(OffsetsBeyondEnd):
        setting.worker().run()
    assert setting.sources[-1].closed
