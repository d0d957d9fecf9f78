"""The values that travel through the pipeline, from first read to last write. No behaviour beyond slicing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


class RawRecord(Protocol):
    """A record as the client delivers it; kafka-python's ``ConsumerRecord`` fits as it is, so none is copied."""

    @property
    def offset(self) -> int:
        """Position in the partition."""
        ...

    @property
    def timestamp(self) -> int:
        """Kafka timestamp, epoch milliseconds (-1: none)."""
        ...

    @property
    def key(self) -> bytes | None:
        """Key, raw."""
        ...

    @property
    def value(self) -> bytes | None:
        """Payload, raw; None is a tombstone."""
        ...

    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]:
        """Headers in order."""
        ...


@dataclass(frozen=True, slots=True)
class PartitionSlice:
    """Consecutive records of one partition, with the commit position that follows from having handled them.

    Attributes:
        partition: Where they were read.
        records: In order of offset; may be empty when only transaction markers were passed.
        next_offset: Position after them, markers included.
    """

    partition: TopicPartition
    records: Sequence[RawRecord]
    next_offset: int

    def starting_at(self, offset: int) -> PartitionSlice:
        """The same slice without the records below ``offset``."""
        kept = [record for record in self.records if record.offset >= offset]
        return PartitionSlice(self.partition, kept, self.next_offset)


@dataclass(frozen=True, slots=True)
class Polled:
    """What one poll brought.

    Attributes:
        slices: New records, at most one slice a partition.
        assigned: All partitions that this consumer owns now.
        reassigned: Partitions revoked or assigned since the poll before: their position is not to be trusted.
        out_of_range: Partitions whose position the broker does not have (retention, or a topic created anew).
    """

    slices: tuple[PartitionSlice, ...]
    assigned: frozenset[TopicPartition]
    reassigned: frozenset[TopicPartition] = frozenset()
    out_of_range: frozenset[TopicPartition] = frozenset()


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be scored, kept whole.

    Attributes:
        partition: Provenance.
        record_offset: Provenance.
        reason: Stable word for counting, such as ``"invalid-json"`` or ``"wrong-dimension"``.
        detail: One line for people, with the place in the payload where there is one.
        error_class: Name of the exception class behind it.
        key: Raw key.
        payload: Raw value, cut at the configured size.
        payload_size: Full size in bytes.
        headers: Raw headers.
        record_time: Kafka timestamp, UTC.
    """

    partition: TopicPartition
    record_offset: int
    reason: str
    detail: str
    error_class: str
    key: bytes | None
    payload: bytes
    payload_size: int
    headers: tuple[tuple[str, bytes | None], ...]
    record_time: datetime | None


@dataclass(frozen=True, slots=True)
class Anomaly:
    """A flagged record with the version and the threshold that judged it."""

    partition: TopicPartition
    record_offset: int
    record_key: str | None
    sample_id: str | None
    event_time: datetime
    detected_at: datetime
    score: float
    threshold: float
    score_ratio: float
    p_value: float
    severity: str
    nearest_class: str
    label: str | None
    model_version_id: int
    threshold_id: int
    features: NDArray[np.float32]
    explanation: Mapping[str, Any]
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Sample:
    """A record kept for calibration and training.

    Attributes:
        reservoir_key: Uniform in [0, 1) from the record's identity; the smallest per class stay longest.
    """

    partition: TopicPartition
    record_offset: int
    sample_id: str | None
    event_time: datetime
    kept_at: datetime
    features: NDArray[np.float32]
    label: str | None
    predicted_class: str
    score: float
    flagged: bool
    reservoir_key: float


@dataclass(frozen=True, slots=True)
class PartitionOutcome:
    """All that one slice leads to; it is written as a whole or not at all.

    Attributes:
        partition: Whose records these were.
        expected: Stored offset that this outcome was computed from (compare).
        next_offset: Offset to store (set).
        n_records: Records scored.
        n_tombstones: Records with a null value, skipped.
        scores: Scores of the scored records, float64 (n_records,).
        latencies_s: Seconds from the Kafka timestamp to the decision, float64 (n_records,).
        lag: Records behind the end of the partition after this slice.
    """

    partition: TopicPartition
    expected: int
    next_offset: int
    n_records: int
    n_tombstones: int
    scores: NDArray[np.float64]
    latencies_s: NDArray[np.float64]
    lag: int
    anomalies: tuple[Anomaly, ...] = ()
    dead_letters: tuple[DeadLetter, ...] = ()
    samples: tuple[Sample, ...] = ()


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """What one transaction writes."""

    stream: str
    window_start: datetime
    parts: tuple[PartitionOutcome, ...] = field(default=())

    def without(self, partitions: Collection[TopicPartition]) -> BatchOutcome:
        """The same outcome, less what belongs to ``partitions``."""
        kept = tuple(part for part in self.parts if part.partition not in partitions)
        return BatchOutcome(self.stream, self.window_start, kept)
