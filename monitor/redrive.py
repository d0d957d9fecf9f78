"""Dead letters scored after all, once the schema or the code was mended: exactly once, under their own provenance."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from monitor import wiring
from monitor.clock import SystemClock
from monitor.decoding import DecodedSlice, Decoder
from monitor.metrics import NoMetrics
from monitor.outcomes import outcome
from monitor.records import BatchOutcome, PartitionOutcome, PartitionSlice, TopicPartition
from monitor.store.rows import DeadLetterRow

if TYPE_CHECKING:
    from monitor.champion import Champion
    from monitor.settings import Settings
    from monitor.settings_streams import StreamSettings
    from monitor.store import Store

#: Dead letters read, scored and written at a time.
_CHUNK = 1000


@dataclass(frozen=True, slots=True)
class RedriveReport:
    """What became of the dead letters.

    Attributes:
        redriven: Scored now.
        anomalies: Of those, flagged.
        still_invalid: Left as they are, by their reason today.
        cut: Left as they are, because only the beginning of the payload was kept.
    """

    redriven: int
    anomalies: int
    still_invalid: Mapping[str, int]
    cut: int


@dataclass(frozen=True, slots=True)
class _Kept:
    """A dead letter as the record that it was."""

    id: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


def redrive(
    settings: Settings,
    stream: StreamSettings,
    *,
    reason: str | None = None,
    ids: Collection[int] | None = None,
    limit: int,
) -> RedriveReport:
    """Score dead letters again with today's schema and champion.

    Args:
        settings: The configuration.
        stream: Stream whose dead letters are taken.
        reason: Only with this one.
        ids: Only these; None means all.
        limit: At most so many.

    Raises:
        NoChampion: Nothing to score with.
        StoreUnavailable: The database is away; what was redriven so far stays so.
        StoreError: Somebody else redrove one of them at the same moment; run it again.
    """
    with wiring.make_store(settings) as store:
        reloader = wiring.make_reloader(settings, stream, store=store, metrics=NoMetrics())
        reloader.refresh()
        counts, still_invalid, after_id = Counter[str](), Counter[str](), 0
        while limit > 0:
            rows = store.dead_letters.pending_redrive(
                stream.name, reason=reason, ids=ids, after_id=after_id, limit=min(limit, _CHUNK)
            )
            if not rows:
                break
            limit, after_id = limit - len(rows), rows[-1].id
            whole = [row for row in rows if len(row.payload) == row.payload_size]
            counts["cut"] += len(rows) - len(whole)
            _redrive_chunk(store, stream, reloader.current, whole, counts=counts, still_invalid=still_invalid)
    return RedriveReport(counts["redriven"], counts["anomalies"], dict(still_invalid), counts["cut"])


def _redrive_chunk(
    store: Store,
    stream: StreamSettings,
    champion: Champion,
    rows: Sequence[DeadLetterRow],
    *,
    counts: Counter[str],
    still_invalid: Counter[str],
) -> None:
    decoder, now = Decoder(stream.record_schema), SystemClock().now()
    decoded = [decoder.decode(piece) for piece in _slices(rows)]
    still_invalid.update(rejected.reason for piece in decoded for rejected in piece.rejected)
    done = [record.id for piece in decoded for record in piece.records if isinstance(record, _Kept)]
    if not done:
        return
    parts = tuple(_rescore(piece, champion, now=now) for piece in decoded if piece.records)
    store.pipeline.write_redrive(BatchOutcome(stream.name, now.replace(second=0, microsecond=0), parts), done)
    counts["redriven"] += len(done)
    counts["anomalies"] += sum(len(part.anomalies) for part in parts)


def _rescore(piece: DecodedSlice, champion: Champion, *, now: datetime) -> PartitionOutcome:
    valid = DecodedSlice(
        piece.source, piece.records, piece.x, piece.event_times_s, piece.sample_ids, piece.labels,
        rejected=(), n_tombstones=0,
    )  # fmt: skip
    return outcome(
        valid, champion.scorer.score(piece.x), champion,
        expected=0, lag=0, now=now, max_samples=len(piece.records), max_payload_bytes=0,
    )  # fmt: skip


def _slices(rows: Iterable[DeadLetterRow]) -> list[PartitionSlice]:
    """One slice a partition, in order of offset."""
    by_partition: dict[TopicPartition, list[_Kept]] = defaultdict(list)
    for row in rows:
        by_partition[TopicPartition(row.topic, row.partition)].append(_record(row))
    return [
        PartitionSlice(partition, sorted(records, key=lambda record: record.offset), 0)
        for partition, records in by_partition.items()
    ]


def _record(row: DeadLetterRow) -> _Kept:
    timestamp = -1 if row.record_time is None else round(row.record_time.timestamp() * 1000)
    return _Kept(row.id, row.record_offset, timestamp, row.key, row.payload, row.headers)
