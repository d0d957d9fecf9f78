"""What a worker may rely on, for the store in memory and for both databases."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Protocol

import pytest

from monitor.errors import OffsetConflict
from monitor.ports import PipelineStore
from monitor.records import TopicPartition
from monitor.store import Store, open_store
from monitor.store.tables import anomalies, dead_letters, offset_gaps
from tests.fakes import FakePipelineStore
from tests.store_builders import P0, P1, add_model, anomaly, dead_letter, full_outcome, outcome, part, rows


class Subject(Protocol):
    """A pipeline store, and what can be seen of it from outside."""

    @property
    def store(self) -> PipelineStore:
        """The store under test."""

    def anomalies(self) -> list[tuple[int, int]]:
        """(partition, record offset), sorted."""

    def dead_letters(self) -> list[tuple[int, int]]:
        """(partition, record offset), sorted."""

    def gaps(self) -> list[tuple[int, int, int]]:
        """(partition, from, to), sorted."""


class InMemory:
    """The fake."""

    def __init__(self) -> None:
        self.store = FakePipelineStore()

    def anomalies(self) -> list[tuple[int, int]]:
        """See ``Subject``."""
        return sorted((each.partition.partition, each.record_offset) for each in self.store.anomalies)

    def dead_letters(self) -> list[tuple[int, int]]:
        """See ``Subject``."""
        return sorted((each.partition.partition, each.record_offset) for each in self.store.dead_letters)

    def gaps(self) -> list[tuple[int, int, int]]:
        """See ``Subject``."""
        return sorted((partition.partition, start, end) for _, partition, start, end in self.store.gaps)


class InDatabase:
    """The real one."""

    def __init__(self, opened: Store) -> None:
        self._opened = opened
        self.store: PipelineStore = opened.pipeline

    def anomalies(self) -> list[tuple[int, int]]:
        """See ``Subject``."""
        return sorted((row["partition"], row["record_offset"]) for row in rows(self._opened, anomalies))

    def dead_letters(self) -> list[tuple[int, int]]:
        """See ``Subject``."""
        return sorted((row["partition"], row["record_offset"]) for row in rows(self._opened, dead_letters))

    def gaps(self) -> list[tuple[int, int, int]]:
        """See ``Subject``."""
        found = rows(self._opened, offset_gaps)
        return sorted((row["partition"], row["from_offset"], row["to_offset"]) for row in found)


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    """Each implementation, with the model version that the anomalies name."""
    if request.param == "memory":
        yield InMemory()
        return
    url = f"sqlite:///{tmp_path / 'a.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    with open_store(url, create=True) as opened:
        add_model(opened)
        yield InDatabase(opened)


class TestClaim:
    def test_claim_stores_the_start_of_a_new_partition(self, subject: Subject) -> None:
        """The first worker decides where a partition begins."""
        assert subject.store.claim("s", {P0: 3, P1: 4}) == {P0: 3, P1: 4}
        assert subject.store.next_offsets("s") == {P0: 3, P1: 4}

    def test_claim_returns_what_is_stored_when_there_is_something(self, subject: Subject) -> None:
        """A later start does not move it, a new partition beside it is created."""
        subject.store.claim("s", {P0: 3})
        assert subject.store.claim("s", {P0: 99, P1: 5}) == {P0: 3, P1: 5}

    def test_claim_returns_only_what_was_asked_for(self, subject: Subject) -> None:
        """Not the partitions of others."""
        subject.store.claim("s", {P0: 3, P1: 4})
        assert subject.store.claim("s", {P1: 0}) == {P1: 4}

    def test_claim_keeps_streams_and_topics_apart(self, subject: Subject) -> None:
        """Two streams may read the same topic."""
        other = TopicPartition("u", 0)
        subject.store.claim("s", {P0: 3})
        assert subject.store.claim("r", {P0: 8, other: 9}) == {P0: 8, other: 9}
        assert subject.store.next_offsets("s") == {P0: 3}

    def test_claim_of_nothing_is_nothing(self, subject: Subject) -> None:
        """A worker without partitions asks, too."""
        assert subject.store.claim("s", {}) == {}

    def test_claim_gives_one_answer_when_threads_race(self, subject: Subject) -> None:
        """Each proposes another start for many partitions; all must go on from the same ones."""
        barrier = Barrier(4)
        partitions = [TopicPartition("t", number) for number in range(8)]

        def race(number: int) -> dict[TopicPartition, int]:
            # In opposite orders, which deadlocks where rows are not locked in one order.
            order = partitions if number % 2 else partitions[::-1]
            barrier.wait(timeout=30)
            return subject.store.claim("s", dict.fromkeys(order, number))

        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(race, range(4)))
        assert all(answer == answers[0] for answer in answers)
        assert subject.store.next_offsets("s") == answers[0]


class TestWrite:
    def test_write_adds_results_and_moves_offsets(self, subject: Subject) -> None:
        """Of all partitions of the outcome."""
        subject.store.claim("s", {P0: 0, P1: 5})
        subject.store.write(full_outcome())
        assert subject.store.next_offsets("s") == {P0: 10, P1: 9}
        assert subject.anomalies() == [(0, 1), (0, 2), (1, 6)]
        assert subject.dead_letters() == [(0, 3), (1, 7)]

    def test_write_goes_on_from_where_it_ended(self, subject: Subject) -> None:
        """The next outcome expects what the one before stored."""
        subject.store.claim("s", {P0: 0})
        subject.store.write(outcome(part(0, 4, anomalies=[anomaly(1)])))
        subject.store.write(outcome(part(4, 8, anomalies=[anomaly(5)])))
        assert subject.anomalies() == [(0, 1), (0, 5)]
        assert subject.store.next_offsets("s") == {P0: 8}

    def test_write_writes_nothing_when_an_offset_moved(self, subject: Subject) -> None:
        """Neither for that partition nor for the others."""
        subject.store.claim("s", {P0: 0, P1: 6})
        with pytest.raises(OffsetConflict) as caught:
            subject.store.write(full_outcome())
        assert caught.value.partitions == {P1}
        assert subject.store.next_offsets("s") == {P0: 0, P1: 6}
        assert subject.anomalies() == subject.dead_letters() == []

    def test_write_names_all_partitions_that_moved(self, subject: Subject) -> None:
        """So that the worker drops them in one go."""
        subject.store.claim("s", {P0: 1, P1: 6})
        with pytest.raises(OffsetConflict) as caught:
            subject.store.write(full_outcome())
        assert caught.value.partitions == {P0, P1}

    def test_write_refuses_a_partition_that_nobody_claimed(self, subject: Subject) -> None:
        """There is no stored offset to compare with."""
        with pytest.raises(OffsetConflict):
            subject.store.write(outcome(part(0, 4)))
        assert subject.store.next_offsets("s") == {}

    def test_write_of_the_same_outcome_again_conflicts(self, subject: Subject) -> None:
        """A replay cannot double anything."""
        subject.store.claim("s", {P0: 0, P1: 5})
        subject.store.write(full_outcome())
        with pytest.raises(OffsetConflict):
            subject.store.write(full_outcome())
        assert subject.anomalies() == [(0, 1), (0, 2), (1, 6)]

    def test_write_takes_the_rest_without_what_conflicted(self, subject: Subject) -> None:
        """What a worker does after a rebalance."""
        subject.store.claim("s", {P0: 0, P1: 6})
        subject.store.write(full_outcome().without({P1}))
        assert subject.store.next_offsets("s") == {P0: 10, P1: 6}
        assert subject.anomalies() == [(0, 1), (0, 2)]

    def test_write_of_nothing_does_nothing(self, subject: Subject) -> None:
        """When every partition was lost."""
        subject.store.write(full_outcome().without({P0, P1}))
        assert subject.anomalies() == []

    def test_write_moves_the_offset_when_there_are_no_results(self, subject: Subject) -> None:
        """A slice of transaction markers or tombstones alone."""
        subject.store.claim("s", {P0: 0})
        subject.store.write(outcome(part(0, 4, scores=[])))
        assert subject.store.next_offsets("s") == {P0: 4}

    def test_write_has_one_winner_when_threads_race(self, subject: Subject) -> None:
        """Two workers hold the same records: one writes them, the other is told."""
        barrier = Barrier(2)
        subject.store.claim("s", {P0: 0, P1: 5})

        def race(end: int) -> bool:
            mine = outcome(part(0, end, anomalies=[anomaly(1)], dead_letters=[dead_letter(2)]))
            barrier.wait(timeout=30)
            try:
                subject.store.write(mine)
            except OffsetConflict:
                return False
            return True

        with ThreadPoolExecutor(2) as pool:
            won = dict(zip((8, 9), pool.map(race, (8, 9)), strict=True))
        assert sorted(won.values()) == [False, True]
        assert won[subject.store.next_offsets("s")[P0]]
        assert subject.anomalies() == [(0, 1)]
        assert subject.dead_letters() == [(0, 2)]


class TestRecordGap:
    def test_record_gap_moves_the_offset_and_keeps_the_range(self, subject: Subject) -> None:
        """A loud, counted gap, never a silent reset."""
        subject.store.claim("s", {P0: 3})
        subject.store.record_gap("s", P0, expected=3, resumed_at=10)
        assert subject.store.next_offsets("s") == {P0: 10}
        assert subject.gaps() == [(0, 3, 10)]

    def test_record_gap_conflicts_when_another_worker_was_faster(self, subject: Subject) -> None:
        """Then the gap is counted once."""
        subject.store.claim("s", {P0: 3})
        subject.store.record_gap("s", P0, expected=3, resumed_at=10)
        with pytest.raises(OffsetConflict):
            subject.store.record_gap("s", P0, expected=3, resumed_at=11)
        assert subject.gaps() == [(0, 3, 10)]
        assert subject.store.next_offsets("s") == {P0: 10}
