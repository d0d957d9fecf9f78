"""One step of the worker: poll, reconcile, decode, score, write. Orchestration only; what is decided is elsewhere.

Order of side effects, each with a test in which it fails (tests/unit/test_pipeline.py):

1. poll                    positions in the client move on
2. claim new partitions    stored offset read (or created), client told to seek there
3. mend lost ranges        offsets that the broker no longer has: a counted gap in the store
4. write                   one transaction: results and next offsets, by compare-and-set
5. commit to Kafka         informational

With ``overlap``, 4 of one batch runs on a thread of its own while 1 to 3 and the decoding of the next go on. The next
batch is computed from the offsets that the one before will have stored; was that one not written, the compare-and-set
refuses the next one too (decision 14 in README).

An error after 1 leaves the client ahead of the store. So after any error the worker forgets all positions, and the
next step begins by reading the stored ones (``Pipeline.recover``).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from monitor import metrics as m
from monitor.batch_work import BatchWork, Piece, Written
from monitor.decoding import DecodedSlice, Decoder
from monitor.errors import OffsetConflict, OffsetsBeyondEnd, Unavailable
from monitor.metrics import timed
from monitor.progress import Progress
from monitor.records import BatchOutcome, TopicPartition

if TYPE_CHECKING:
    from collections.abc import Callable

    from monitor.champion import Champion
    from monitor.ports import Clock, Metrics, PipelineStore, RecordSource
    from monitor.settings_streams import StreamSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StepReport:
    """What was written since the step before, for loops, tests and progress lines.

    Attributes:
        idle: Nothing was.
        proven: The world works: a batch was written, or there is none to write. Reading offsets or handing over a
            batch proves nothing about writing.
    """

    n_records: int = 0
    n_anomalies: int = 0
    n_dead_letters: int = 0
    n_tombstones: int = 0
    idle: bool = True
    proven: bool = False

    @property
    def n_handled(self) -> int:
        """Records that are done, of every kind."""
        return self.n_records + self.n_dead_letters + self.n_tombstones


class Pipeline:
    """The main job for one stream. Its methods are called from one thread.

    Args:
        stream: Settings of the stream.
        source: Where records come from.
        store: Where results and progress go.
        champion: Called once a batch; returns the champion that judges all of it.
        clock: Time.
        metrics: Measurements.
        start_latest: Begin unknown partitions at their end instead of their beginning.
        overlap: Score and write on a thread of its own while the next batch is polled and decoded.
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
        overlap: bool = False,
    ) -> None:
        self._stream = stream
        self._source = source
        self._store = store
        self._champion = champion
        self._clock = clock
        self._metrics = metrics
        self._start_latest = start_latest
        self._decoder = Decoder(stream.record_schema)
        self._work = BatchWork(stream=stream, store=store, clock=clock, metrics=metrics)
        self._progress = Progress()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="score-write") if overlap else None
        self._in_flight: Future[Written] | None = None
        self._reports: list[StepReport] = []

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
        if unknown or polled.out_of_range or not slices:
            self._settle()  # stored offsets are read next, or nothing else is to do
            self._claim(unknown)  # 2
            self._mend(polled.out_of_range)  # 3
        if not slices:
            return self._report(proven=not unknown)
        with self._timed("decode"):
            decoded = [self._decoder.decode(piece) for piece in slices]
        self._settle()
        self._begin(decoded)  # 4
        if self._thread is None:
            self._settle()
        return self._report(proven=False)

    def recover(self) -> None:
        """After an error: trust no position, so that the next step reads them all from the store."""
        try:
            self._settle()
        except Unavailable as error:  # the worker backs off already; the stored offsets will tell what was written
            logger.debug("Batch in flight lost as well: %s", error, extra={"action": "batch_lost"})
        self._progress.forget_all()

    def close(self) -> StepReport:
        """Finish the batch in flight and end the thread; what could not be written is read again by the next worker."""
        self.recover()
        if self._thread is not None:
            self._thread.shutdown()
        return self._report(proven=False)

    def _begin(self, decoded: Sequence[DecodedSlice]) -> None:
        """Hand a batch over, and go on as if it were written."""
        pieces = []
        for piece in decoded:
            partition, next_offset = piece.source.partition, piece.source.next_offset
            if partition in self._progress:  # else the batch before found another owner
                pieces.append(Piece(piece, self._progress[partition], self._source.lag(partition, next_offset)))
                self._progress.learn({partition: next_offset})
        if not pieces:
            return
        champion = self._champion()
        if self._thread is not None:
            self._in_flight = self._thread.submit(self._work.run, pieces, champion)
            return
        self._in_flight = Future()
        try:
            self._in_flight.set_result(self._work.run(pieces, champion))
        except Unavailable as error:
            self._in_flight.set_exception(error)

    def _settle(self) -> None:
        """Wait for the batch in flight, if any, and take its word."""
        if self._in_flight is None:
            return
        in_flight, self._in_flight = self._in_flight, None
        written = in_flight.result()
        self._progress.forget(written.conflicts)
        if written.outcome.parts:
            self._source.commit({part.partition: part.next_offset for part in written.outcome.parts})  # 5
            self._reports.append(_measure(written.outcome, metrics=self._metrics, now_s=self._clock.now().timestamp()))

    def _report(self, *, proven: bool) -> StepReport:
        """What was written since the last report."""
        reports, self._reports = self._reports, []
        return StepReport(
            n_records=sum(report.n_records for report in reports),
            n_anomalies=sum(report.n_anomalies for report in reports),
            n_dead_letters=sum(report.n_dead_letters for report in reports),
            n_tombstones=sum(report.n_tombstones for report in reports),
            idle=not reports,
            proven=proven or bool(reports),
        )

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

    def _timed(self, stage: str) -> timed:
        return timed(self._metrics, self._clock, stream=self._stream.name, stage=stage)


def _measure(batch: BatchOutcome, *, metrics: Metrics, now_s: float) -> StepReport:
    """Count a written batch, for the metrics and for the report."""
    stream, parts = batch.stream, batch.parts
    report = StepReport(
        n_records=sum(part.n_records for part in parts),
        n_anomalies=sum(len(part.anomalies) for part in parts),
        n_dead_letters=sum(len(part.dead_letters) for part in parts),
        n_tombstones=sum(part.n_tombstones for part in parts),
    )
    metrics.increment(m.RECORDS_RECEIVED, report.n_handled, stream=stream)
    metrics.increment(m.RECORDS_SKIPPED, report.n_tombstones, stream=stream)
    metrics.increment(m.BATCHES, stream=stream)
    metrics.observe(m.BATCH_SIZE, report.n_records, stream=stream)
    metrics.set(m.LAST_COMMIT, now_s, stream=stream)
    for part in parts:
        metrics.set(m.CONSUMER_LAG, part.lag, stream=stream, partition=str(part.partition.partition))
        for reason, count in Counter(letter.reason for letter in part.dead_letters).items():
            metrics.increment(m.RECORDS_DEAD_LETTERED, count, stream=stream, reason=reason)
        for severity, count in Counter(anomaly.severity for anomaly in part.anomalies).items():
            metrics.increment(m.ANOMALIES, count, stream=stream, severity=severity)
        if len(part.latencies_s):
            metrics.observe(m.LATENCY, float(part.latencies_s.max()), stream=stream)
    return report


def _beyond_end(stream: str, partition: TopicPartition, *, expected: int, end: int) -> OffsetsBeyondEnd:
    return OffsetsBeyondEnd(
        f"{partition.topic}/{partition.partition} ends at offset {end}, but the store has handled it up to {expected}: "
        f"the topic was deleted and created again, or truncated. Give the new topic a stream name of its own "
        f"(stream {stream!r} keeps its history), or restore the topic."
    )
