"""Slices to batches: the valid become one matrix, the others are rejected with a reason. No Kafka, SQL or clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.event_time import EPOCH_LIMIT_S, parse_event_times
from monitor.json_payload import JsonPayload
from monitor.payloads import Float32Payload, PayloadDecoder, Rejected
from monitor.records import DeadLetter, PartitionSlice, RawRecord, TopicPartition
from monitor.settings_streams import RecordSchema

_FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class DecodedSlice:
    """One slice as vectors; row i of each belongs to ``records[i]``.

    Attributes:
        source: The slice that was decoded.
        records: The valid records.
        x: Features, float32 (n, D).
        event_times_s: Data time, epoch seconds, float64 (n,).
        sample_ids: From the payload, raw (string, number or None).
        labels: From the payload, raw (string, number or None).
        rejected: The invalid records.
        n_tombstones: Records with a null value, skipped.
    """

    source: PartitionSlice
    records: Sequence[RawRecord]
    x: NDArray[np.float32]
    event_times_s: NDArray[np.float64]
    sample_ids: Sequence[Any]
    labels: Sequence[Any]
    rejected: tuple[Rejected, ...]
    n_tombstones: int


class Decoder:
    """Decodes slices of one stream.

    Args:
        schema: What a valid record looks like.
    """

    def __init__(self, schema: RecordSchema) -> None:
        self._max_bytes = schema.max_bytes
        payload = JsonPayload if schema.payload == "json" else Float32Payload
        self._payload: PayloadDecoder = payload(schema)

    def decode(self, piece: PartitionSlice) -> DecodedSlice:
        """Decode one slice; every record ends in the batch, among the rejected, or as a counted tombstone."""
        present, rejected, n_tombstones = self._present(piece.records)
        records, columns, invalid = self._payload.rows(present)
        times, bad_times = parse_event_times(columns.event_times, [record.timestamp for record in records])
        usable = _usable(columns.features, bad_times)
        rejected += invalid
        if not usable.all():
            rejected += [_bad_number(records[i], columns.features[i]) for i in np.flatnonzero(~usable)]
            keep = np.flatnonzero(usable)
            records = [records[i] for i in keep]
            columns = columns.take(keep)
            times = times[keep]
        return DecodedSlice(
            source=piece,
            records=records,
            x=columns.features.astype(np.float32, copy=False),
            event_times_s=times,
            sample_ids=columns.sample_ids,
            labels=columns.labels,
            rejected=tuple(rejected),
            n_tombstones=n_tombstones,
        )

    def _present(self, records: Sequence[RawRecord]) -> tuple[Sequence[RawRecord], list[Rejected], int]:
        """Records to parse, those too large to, and how many have no value."""
        sizes = [len(record.value) if record.value is not None else -1 for record in records]
        if sizes and min(sizes) >= 0 and max(sizes) <= self._max_bytes:
            return records, [], 0
        fits = [record for record, size in zip(records, sizes, strict=True) if 0 <= size <= self._max_bytes]
        too_large = [
            self._too_large(record) for record, size in zip(records, sizes, strict=True) if size > self._max_bytes
        ]
        return fits, too_large, sizes.count(-1)

    def _too_large(self, record: RawRecord) -> Rejected:
        size = len(record.value or b"")
        detail = f"the value has {size} bytes; at most {self._max_bytes} are read (streams.*.schema.max_bytes)"
        return Rejected(record, "too-large", detail, "ValueError")


def dead_letter(partition: TopicPartition, rejected: Rejected, *, max_payload_bytes: int) -> DeadLetter:
    """The row that keeps a rejected record, with its payload cut at ``max_payload_bytes``."""
    record = rejected.record
    value = record.value or b""
    in_range = 0 <= record.timestamp < EPOCH_LIMIT_S * 1000
    return DeadLetter(
        partition=partition,
        record_offset=record.offset,
        reason=rejected.reason,
        detail=rejected.detail,
        error_class=rejected.error_class,
        key=record.key,
        payload=bytes(value[:max_payload_bytes]),
        payload_size=len(value),
        headers=tuple((name, content) for name, content in record.headers),
        record_time=datetime.fromtimestamp(record.timestamp / 1000, UTC) if in_range else None,
    )


def as_text(value: Any) -> str | None:
    """An id or label as text: ``3``, ``3.0`` and ``"3"`` are the same class."""
    if value is None or value == "":
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _usable(features: NDArray[Any], bad_times: NDArray[np.bool_]) -> NDArray[np.bool_]:
    # One pass tells whether anything is wrong; NaN and infinity fail the comparison too.
    if features.size and not (np.abs(features).max() <= _FLOAT32_MAX):
        within = (np.abs(features) <= _FLOAT32_MAX).all(axis=1)
    else:
        within = np.ones(len(features), dtype=np.bool_)
    return np.asarray(within & ~bad_times, dtype=np.bool_)


def _bad_number(record: RawRecord, row: NDArray[Any]) -> Rejected:
    wrong = np.flatnonzero(~(np.abs(row) <= _FLOAT32_MAX))
    if not len(wrong):
        return Rejected(
            record, "invalid-event-time", "the event time is not a date between 1970 and 9999", "ValueError"
        )
    place, value = int(wrong[0]), float(row[wrong[0]])
    if np.isfinite(value):
        return Rejected(record, "out-of-range", f"feature {place} is {value:g}, too large for float32", "ValueError")
    return Rejected(record, "not-finite", f"feature {place} is {value}", "ValueError")
