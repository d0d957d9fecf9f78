"""In-memory seams that pass the same contract tests as the real ones."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from monitor.errors import OffsetConflict
from monitor.records import Anomaly, BatchOutcome, DeadLetter, Sample, TopicPartition


class FakePipelineStore:
    """``ports.PipelineStore`` in memory: tests/contract/test_pipeline_store.py holds it to the databases.

    Attributes:
        anomalies: All that was written, in order.
        dead_letters: All that was written, in order.
        samples: All that was written, in order; never trimmed.
        gaps: (stream, partition, expected, resumed_at) of each.
        written: Outcomes that were written, in order.
    """

    def __init__(self) -> None:
        self.anomalies: list[Anomaly] = []
        self.dead_letters: list[DeadLetter] = []
        self.samples: list[Sample] = []
        self.gaps: list[tuple[str, TopicPartition, int, int]] = []
        self.written: list[BatchOutcome] = []
        self._offsets: dict[tuple[str, TopicPartition], int] = {}
        self._lock = threading.Lock()

    def claim(self, stream: str, starts: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """As the port says."""
        with self._lock:
            return {
                partition: self._offsets.setdefault((stream, partition), start) for partition, start in starts.items()
            }

    def next_offsets(self, stream: str) -> dict[TopicPartition, int]:
        """As the port says."""
        with self._lock:
            return {partition: offset for (name, partition), offset in self._offsets.items() if name == stream}

    def write(self, outcome: BatchOutcome) -> None:
        """As the port says."""
        with self._lock:
            lost = [
                part.partition
                for part in outcome.parts
                if self._offsets.get((outcome.stream, part.partition)) != part.expected
            ]
            if lost:
                raise OffsetConflict(lost)
            for part in outcome.parts:
                self._offsets[outcome.stream, part.partition] = part.next_offset
                self.anomalies.extend(part.anomalies)
                self.dead_letters.extend(part.dead_letters)
                self.samples.extend(part.samples)
            if outcome.parts:
                self.written.append(outcome)

    def record_gap(self, stream: str, partition: TopicPartition, *, expected: int, resumed_at: int) -> None:
        """As the port says."""
        with self._lock:
            if self._offsets.get((stream, partition)) != expected:
                raise OffsetConflict([partition])
            self._offsets[stream, partition] = resumed_at
            self.gaps.append((stream, partition, expected, resumed_at))
