"""A topic and its consumers in memory, for tests of the pipeline; the contract suite holds it to the real broker."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from monitor.errors import BrokerUnavailable
from monitor.records import PartitionSlice, Polled, TopicPartition


@dataclass(frozen=True)
class FakeRecord:
    """A record as a client delivers it."""

    offset: int
    value: bytes | None
    key: bytes | None = None
    timestamp: int = 1_700_000_000_000
    headers: Sequence[tuple[str, bytes | None]] = ()


@dataclass
class FakeTopic:
    """Partitions as lists; ``first`` is what retention left."""

    name: str
    logs: dict[int, list[FakeRecord]] = field(default_factory=dict)
    first: dict[int, int] = field(default_factory=dict)

    def produce(self, values: Iterable[bytes | None], *, partition: int = 0) -> None:
        """Append values to a partition."""
        log = self.logs.setdefault(partition, [])
        for value in values:
            log.append(FakeRecord(len(log), value, key=f"k{len(log)}".encode()))

    def delete_before(self, offset: int, *, partition: int = 0) -> None:
        """What retention does."""
        self.first[partition] = offset


class FakeRecordSource:
    """One consumer. ``assign`` is the group coordinator's word; ``down`` makes every call fail."""

    def __init__(self, topic: FakeTopic, *, assigned: Collection[int] | None = None) -> None:
        self._topic = topic
        self._positions: dict[TopicPartition, int] = {}
        self._changed: set[TopicPartition] = set()
        self.committed: dict[TopicPartition, int] = {}
        self.down = False
        self.closed = False
        self.assign(topic.logs if assigned is None else assigned)

    def assign(self, numbers: Collection[int]) -> None:
        """A rebalance: these partitions from now on."""
        wanted = {TopicPartition(self._topic.name, number) for number in numbers}
        self._changed |= wanted ^ set(self._positions)
        self._positions = {key: self._positions.get(key, self.committed.get(key, 0)) for key in sorted(wanted)}

    def bounce(self, number: int) -> None:
        """Revoked and given back between two polls; the position is the committed one again."""
        key = TopicPartition(self._topic.name, number)
        self._changed.add(key)
        self._positions[key] = self.committed.get(key, 0)

    def poll(self, *, timeout_s: float, max_records: int) -> Polled:
        """Up to ``max_records``, partition by partition."""
        self._check()
        slices, lost, left = [], set(), max_records
        for key, position in self._positions.items():
            log, first = self._topic.logs[key.partition], self._topic.first.get(key.partition, 0)
            if not first <= position <= len(log):
                lost.add(key)
                continue
            taken = log[position : position + left]
            if taken:
                left -= len(taken)
                self._positions[key] = taken[-1].offset + 1
                slices.append(PartitionSlice(key, taken, self._positions[key]))
        changed, self._changed = frozenset(self._changed), set()
        return Polled(tuple(slices), frozenset(self._positions), changed, frozenset(lost))

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Continue at ``offset``."""
        self._check()
        if partition in self._positions:
            self._positions[partition] = offset

    def beginning_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Oldest offsets."""
        self._check()
        return {key: self._topic.first.get(key.partition, 0) for key in partitions}

    def end_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Offsets after the newest."""
        self._check()
        return {key: len(self._topic.logs[key.partition]) for key in partitions}

    def partitions(self) -> frozenset[TopicPartition]:
        """All partitions."""
        self._check()
        return frozenset(TopicPartition(self._topic.name, number) for number in self._topic.logs)

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Remember."""
        self.committed.update(offsets)

    def lag(self, partition: TopicPartition, next_offset: int) -> int:
        """Behind the end."""
        return len(self._topic.logs[partition.partition]) - next_offset

    def close(self) -> None:
        """Leave."""
        self.closed = True

    def _check(self) -> None:
        if self.down:
            raise BrokerUnavailable
