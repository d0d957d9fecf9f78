"""One step of the worker: poll, reconcile, decode, score, write. Orchestration only; what is decided is elsewhere.

Order of side effects of a step, each with a test in which it fails (tests/unit/test_pipeline.py):

1. poll                    positions in the client move on
2. claim new partitions    stored offset read (or created), client told to seek there
3. mend lost ranges        offsets that the broker no longer has: a counted gap in the store
4. write                   one transaction: results and next offsets, by compare-and-set
5. commit to Kafka         informational

An error after 1 leaves the client ahead of the store. So after any error the worker forgets all positions, and the
next step begins by reading the stored ones (``Pipeline.recover``).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.api import Scores
from monitor import metrics as m
from monitor.decoding import DecodedSlice, Decoder
from monitor.errors import OffsetConflict, OffsetsBeyondEnd
from monitor.outcomes import outcome
from monitor.progress import Progress
from monitor.records import BatchOutcome, PartitionOutcome, PartitionSlice, TopicPartition
from monitor.sampling import SampleRate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from monitor.champion import Champion
    from monitor.ports import Clock, Metrics, PipelineStore, RecordSource
    from monitor.settings_streams import StreamSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StepReport:
    """What a step did, for loops, tests and progress lines.

    Attributes:
        idle: There was nothing to write.
        claimed: Stored offsets were read for some partition: a read that works does not say that writing does.
    """

    n_records: int = 0
    n_anomalies: int = 0
    n_dead_letters: int = 0
    n_tombstones: int = 0
    idle: bool = True
    claimed: bool = False


class Pipeline:
    """The main job for one stream. Lives on one thread.

    Args:
        stream: Settings of the stream.
        source: Where records come from.
        store: Where results and progress go.
        champion: Called once a batch; returns the champion that judges all of it.
        clock: Time.
        metrics: Measurements.
        start_latest: Begin unknown partitions at their end instead of their beginning.
    """

    def __init__(
        self,
        *,
        stream: StreamSettings,
        source: RecordSource,
        store: PipelineStore,
        champion: Callable[[], Champion],
        clock: Clock,
        metrics: Metrics,
        start_latest: bool = False,
    ) -> None:
        self._stream = stream
        self._source = source
        self._store = store
        self._champion = champion
        self._clock = clock
        self._metrics = metrics
        self._start_latest = start_latest
        self._decoder = Decoder(stream.record_schema)
        self._samples = SampleRate(stream.samples.max_per_second)
        self._progress = Progress()

    def step(self) -> StepReport:
        """Handle one poll.

        Raises:
            Unavailable: Broker or store is away; call ``recover`` and try again later.
            OffsetsBeyondEnd: The topic was recreated; a person must decide.
        """
        batch = self._stream.batch
        with self._timed("poll"):
            polled = self._source.poll(timeout_s=batch.poll_timeout.total_seconds(), max_records=batch.max_records)  # 1
        unknown = self._progress.unknown(polled)
        slices = self._progress.usable(polled.slices)
        self._claim(unknown)  # 2
        self._mend(polled.out_of_range)  # 3
        if not slices:
            return StepReport(claimed=bool(unknown))
        written = self._write(self._outcome(slices))  # 4
        self._source.commit({part.partition: part.next_offset for part in written.parts})  # 5
        return self._report(written)

    def recover(self) -> None:
        """After an error: trust no position, so that the next step reads them all from the store."""
        self._progress.forget_all()

    def _claim(self, partitions: Sequence[TopicPartition]) -> None:
        if not partitions:
            return
        ask = self._source.end_offsets if self._start_latest else self._source.beginning_offsets
        stored = self._store.claim(self._stream.name, ask(partitions))
        for partition in partitions:
            self._source.seek(partition, stored[partition])
        self._progress.learn(stored)
        names = ", ".join(f"{partition.partition}@{stored[partition]}" for partition in partitions)
        logger.info("Reading %s, partitions %s", self._stream.topic, names, extra={"action": "partitions_claimed"})

    def _mend(self, out_of_range: Collection[TopicPartition]) -> None:
        mine = [partition for partition in out_of_range if partition in self._progress]
        if not mine:
            return
        first, end = self._source.beginning_offsets(mine), self._source.end_offsets(mine)
        for partition in mine:
            expected = self._progress[partition]
            if expected > end[partition]:
                raise _beyond_end(self._stream.name, partition, expected=expected, end=end[partition])
            if expected < first[partition]:
                self._skip_gap(partition, expected=expected, resumed_at=first[partition])
            if partition in self._progress:
                self._source.seek(partition, self._progress[partition])

    def _skip_gap(self, partition: TopicPartition, *, expected: int, resumed_at: int) -> None:
        logger.error(
            "%s/%d: the broker no longer has offsets %d to %d (retention); %d records were never scored",
            partition.topic, partition.partition, expected, resumed_at - 1, resumed_at - expected,
            extra={"action": "offset_gap"},
        )  # fmt: skip
        try:
            self._store.record_gap(self._stream.name, partition, expected=expected, resumed_at=resumed_at)
        except OffsetConflict as conflict:  # the next owner has noted it; the step after reads the stored offset
            logger.warning("%s", conflict, extra={"action": "offset_conflict"})
            self._progress.forget(conflict.partitions)
            return
        self._metrics.increment(m.OFFSET_GAPS, resumed_at - expected, stream=self._stream.name)
        self._progress.learn({partition: resumed_at})

    def _outcome(self, slices: Sequence[PartitionSlice]) -> BatchOutcome:
        champion = self._champion()
        with self._timed("decode"):
            decoded = [self._decoder.decode(piece) for piece in slices]
        with self._timed("score"):
            scores = _score(champion, decoded)
        now = self._clock.now()
        parts: list[PartitionOutcome] = []
        with self._timed("judge"):
            for piece, scored in zip(decoded, scores, strict=True):
                partition = piece.source.partition
                parts.append(
                    outcome(
                        piece,
                        scored,
                        champion,
                        expected=self._progress[partition],
                        lag=self._source.lag(partition, piece.source.next_offset),
                        now=now,
                        max_samples=self._samples.allow(len(piece.records), now_s=self._clock.monotonic()),
                        max_payload_bytes=self._stream.dead_letters.max_payload_bytes,
                    )
                )
        return BatchOutcome(self._stream.name, now.replace(second=0, microsecond=0), tuple(parts))

    def _write(self, batch: BatchOutcome) -> BatchOutcome:
        """Write; what belongs to others now is dropped, the rest is tried again."""
        while batch.parts:
            try:
                with self._timed("write"):
                    self._store.write(batch)
            except OffsetConflict as conflict:
                logger.warning("%s", conflict, extra={"action": "offset_conflict"})
                self._metrics.increment(m.OFFSET_CONFLICTS, len(conflict.partitions), stream=self._stream.name)
                self._progress.forget(conflict.partitions)
                batch = batch.without(conflict.partitions)
            else:
                self._progress.learn({part.partition: part.next_offset for part in batch.parts})
                break
        return batch

    def _report(self, batch: BatchOutcome) -> StepReport:
        stream, parts, metrics = self._stream.name, batch.parts, self._metrics
        report = StepReport(
            n_records=sum(part.n_records for part in parts),
            n_anomalies=sum(len(part.anomalies) for part in parts),
            n_dead_letters=sum(len(part.dead_letters) for part in parts),
            n_tombstones=sum(part.n_tombstones for part in parts),
            idle=False,
        )
        metrics.increment(
            m.RECORDS_RECEIVED, report.n_records + report.n_dead_letters + report.n_tombstones, stream=stream
        )
        metrics.increment(m.RECORDS_SKIPPED, report.n_tombstones, stream=stream)
        metrics.increment(m.BATCHES, stream=stream)
        metrics.observe(m.BATCH_SIZE, report.n_records, stream=stream)
        metrics.set(m.LAST_COMMIT, self._clock.now().timestamp(), stream=stream)
        for part in parts:
            metrics.set(m.CONSUMER_LAG, part.lag, stream=stream, partition=str(part.partition.partition))
            for reason, count in Counter(letter.reason for letter in part.dead_letters).items():
                metrics.increment(m.RECORDS_DEAD_LETTERED, count, stream=stream, reason=reason)
            for severity, count in Counter(anomaly.severity for anomaly in part.anomalies).items():
                metrics.increment(m.ANOMALIES, count, stream=stream, severity=severity)
            if len(part.latencies_s):
                metrics.observe(m.LATENCY, float(part.latencies_s.max()), stream=stream)
        return report

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = self._clock.monotonic()
        yield
        self._metrics.observe(m.BATCH_DURATION, self._clock.monotonic() - start, stream=self._stream.name, stage=stage)


def _score(champion: Champion, decoded: Sequence[DecodedSlice]) -> list[Scores]:
    """Score all slices as one matrix and cut the result again."""
    x = decoded[0].x if len(decoded) == 1 else np.concatenate([piece.x for piece in decoded])
    scores = champion.scorer.score(x)
    ends = np.cumsum([len(piece.records) for piece in decoded])
    return [
        Scores(scores.score[end - len(piece.records) : end], scores.nearest[end - len(piece.records) : end])
        for piece, end in zip(decoded, ends, strict=True)
    ]


def _beyond_end(stream: str, partition: TopicPartition, *, expected: int, end: int) -> OffsetsBeyondEnd:
    return OffsetsBeyondEnd(
        f"{partition.topic}/{partition.partition} ends at offset {end}, but the store has handled it up to {expected}: "
        f"the topic was deleted and created again, or truncated. Give the new topic a stream name of its own "
        f"(stream {stream!r} keeps its history), or restore the topic."
    )
