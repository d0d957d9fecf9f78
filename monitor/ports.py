"""The seams: what the pipeline asks of the world. One page; adapters are chosen in ``wiring.py`` only."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Protocol

from monitor.metrics import Counter, Gauge, Histogram
from monitor.records import BatchOutcome, Polled, TopicPartition


class Clock(Protocol):
    """Time as an argument. Called from any thread; never blocks except ``sleep``."""

    def now(self) -> datetime:
        """Wall clock, aware, UTC: for rows and people."""
        ...

    def monotonic(self) -> float:
        """Seconds that never jump back: for durations and back-off."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait; returns early when the process is asked to stop."""
        ...


class RecordSource(Protocol):
    """Where records come from. All methods are called from the worker's one thread.

    Every method may raise ``BrokerUnavailable`` (retry) and no other error of the client library.
    """

    def poll(self, *, timeout_s: float, max_records: int) -> Polled:
        """Wait up to ``timeout_s`` for records, from positions that move on with every poll."""
        ...

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Continue at ``offset``; records fetched ahead are dropped."""
        ...

    def beginning_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Oldest offset that the broker still has."""
        ...

    def end_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Offset after the newest readable record."""
        ...

    def partitions(self) -> frozenset[TopicPartition]:
        """All partitions of the topic, whoever owns them; empty while the topic does not exist."""
        ...

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Tell the group coordinator, for lag exporters only: returns at once, a failure is logged and forgotten."""
        ...

    def lag(self, partition: TopicPartition, next_offset: int) -> int:
        """Records between ``next_offset`` and the last known end; asks nobody."""
        ...

    def close(self) -> None:
        """Leave the group; safe to call twice."""
        ...


class PipelineStore(Protocol):
    """The worker's side of the store. Blocking; raises ``StoreUnavailable`` (retry) when the database is away."""

    def claim(self, stream: str, starts: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Stored offset of each partition; where there is none yet, ``starts`` is stored first."""
        ...

    def next_offsets(self, stream: str) -> dict[TopicPartition, int]:
        """All stored offsets of the stream."""
        ...

    def write(self, outcome: BatchOutcome) -> None:
        """Write the whole outcome in one transaction, offsets by compare-and-set.

        Raises:
            OffsetConflict: An offset was not the expected one; nothing at all was written.
        """
        ...

    def record_gap(self, stream: str, partition: TopicPartition, *, expected: int, resumed_at: int) -> None:
        """Note that the broker no longer has [expected, resumed_at), and move the offset, in one transaction.

        Raises:
            OffsetConflict: Another worker was faster.
        """
        ...


class Metrics(Protocol):
    """Where measurements go. Called from any thread; never blocks, never raises."""

    def increment(self, counter: Counter, amount: float = 1, *, stream: str, **labels: str) -> None:
        """Add to a counter."""
        ...

    def set(self, gauge: Gauge, value: float, *, stream: str, **labels: str) -> None:
        """Set a gauge."""
        ...

    def observe(self, histogram: Histogram, value: float, *, stream: str, **labels: str) -> None:
        """Record one value."""
        ...
