"""Score, judge and write one decoded batch: what may run beside the polling thread. Knows no source and no progress."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.api import Scores
from monitor import metrics as m
from monitor.decoding import DecodedSlice
from monitor.errors import OffsetConflict
from monitor.metrics import timed
from monitor.outcomes import outcome
from monitor.records import BatchOutcome, PartitionOutcome, TopicPartition
from monitor.sampling import SampleRate

if TYPE_CHECKING:
    from monitor.champion import Champion
    from monitor.ports import Clock, Metrics, PipelineStore
    from monitor.settings_streams import StreamSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Piece:
    """One decoded slice and what the polling thread knows of its partition.

    Attributes:
        decoded: The slice as vectors.
        expected: Offset that the store holds once all batches before this one are written.
        lag: Records behind the end of the partition after it.
    """

    decoded: DecodedSlice
    expected: int
    lag: int


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a batch.

    Attributes:
        outcome: What was written.
        conflicts: Partitions that another worker owns now; nothing of theirs was written.
    """

    outcome: BatchOutcome
    conflicts: frozenset[TopicPartition]


class BatchWork:
    """One batch after the other, from one thread at a time.

    Args:
        stream: Settings of the stream.
        store: Where results and progress go.
        clock: Time.
        metrics: Measurements.
    """

    def __init__(self, *, stream: StreamSettings, store: PipelineStore, clock: Clock, metrics: Metrics) -> None:
        self._stream = stream
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._samples = SampleRate(stream.samples.max_per_second)

    def run(self, pieces: Sequence[Piece], champion: Champion) -> Written:
        """Score, judge, write.

        Raises:
            StoreUnavailable: The database is away; whether the batch was written may be unknown.
        """
        with self._timed("score"):
            scores = _score(champion, [piece.decoded for piece in pieces])
        with self._timed("judge"):
            batch = self._judge(pieces, scores, champion)
        return self._write(batch)

    def _judge(self, pieces: Sequence[Piece], scores: Sequence[Scores], champion: Champion) -> BatchOutcome:
        now = self._clock.now()
        parts: list[PartitionOutcome] = []
        for piece, scored in zip(pieces, scores, strict=True):
            n_records = len(piece.decoded.records)
            parts.append(
                outcome(
                    piece.decoded,
                    scored,
                    champion,
                    expected=piece.expected,
                    lag=piece.lag,
                    now=now,
                    max_samples=self._samples.allow(n_records, now_s=self._clock.monotonic()),
                    max_payload_bytes=self._stream.dead_letters.max_payload_bytes,
                )
            )
        return BatchOutcome(self._stream.name, now.replace(second=0, microsecond=0), tuple(parts))

    def _write(self, batch: BatchOutcome) -> Written:
        """Write; what belongs to others now is dropped, the rest is tried again."""
        lost: frozenset[TopicPartition] = frozenset()
        while batch.parts:
            try:
                with self._timed("write"):
                    self._store.write(batch)
            except OffsetConflict as conflict:
                logger.warning("%s", conflict, extra={"action": "offset_conflict"})
                self._metrics.increment(m.OFFSET_CONFLICTS, len(conflict.partitions), stream=self._stream.name)
                lost |= conflict.partitions
                batch = batch.without(conflict.partitions)
            else:
                break
        return Written(batch, lost)

    def _timed(self, stage: str) -> timed:
        return timed(self._metrics, self._clock, stream=self._stream.name, stage=stage)


def _score(champion: Champion, decoded: Sequence[DecodedSlice]) -> list[Scores]:
    """Score all slices as one matrix and cut the result again."""
    x = decoded[0].x if len(decoded) == 1 else np.concatenate([piece.x for piece in decoded])
    scores = champion.scorer.score(x)
    ends = np.cumsum([len(piece.records) for piece in decoded])
    return [
        Scores(scores.score[end - len(piece.records) : end], scores.nearest[end - len(piece.records) : end])
        for piece, end in zip(decoded, ends, strict=True)
    ]
