"""Payload formats: bytes to columns, by the stream's schema. A new format is a class and a word in the settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from monitor.records import RawRecord
from monitor.settings_streams import RecordSchema


@dataclass(frozen=True, slots=True)
class Rejected:
    """Why a record is not in the batch."""

    record: RawRecord
    reason: str
    detail: str
    error_class: str


@dataclass(frozen=True, slots=True)
class Columns:
    """The parts of n valid records, part by part.

    Attributes:
        features: float64 or float32 (n, D); may hold infinities and numbers too large for float32.
        event_times: As written in the payload, or None where the Kafka timestamp counts.
        sample_ids: As written in the payload (string, number or None).
        labels: As written in the payload (string, number or None).
    """

    features: NDArray[np.float64] | NDArray[np.float32]
    event_times: Sequence[Any] | None
    sample_ids: Sequence[Any]
    labels: Sequence[Any]

    def take(self, rows: NDArray[np.int64]) -> Columns:
        """Some of the rows; event times have been read by then."""
        return Columns(
            features=self.features[rows],
            event_times=None,
            sample_ids=[self.sample_ids[i] for i in rows],
            labels=[self.labels[i] for i in rows],
        )


class PayloadDecoder(Protocol):
    """One payload format."""

    def rows(self, records: Sequence[RawRecord]) -> tuple[list[RawRecord], Columns, list[Rejected]]:
        """Valid records, their columns, and the rejected ones. Never raises for a bad record."""
        ...


class Float32Payload:
    """Raw little-endian float32; the id is the record's key, the time is the record's timestamp."""

    def __init__(self, schema: RecordSchema) -> None:
        self._dimension = schema.dimension
        self._size = 4 * schema.dimension

    def rows(self, records: Sequence[RawRecord]) -> tuple[list[RawRecord], Columns, list[Rejected]]:
        """Join the values that have the right size and read them as one matrix."""
        kept = [record for record in records if len(record.value or b"") == self._size]
        rejected = [self._wrong_size(record) for record in records if len(record.value or b"") != self._size]
        joined = b"".join([record.value or b"" for record in kept])
        x = np.frombuffer(joined, dtype="<f4").reshape(len(kept), self._dimension)
        ids = [_text(record.key) for record in kept]
        return kept, Columns(x, None, ids, [None] * len(kept)), rejected

    def _wrong_size(self, record: RawRecord) -> Rejected:
        detail = f"the value has {len(record.value or b'')} bytes; {self._dimension} float32 are {self._size}"
        return Rejected(record, "wrong-dimension", detail, "ValueError")


def _text(key: bytes | None) -> str | None:
    return None if key is None else key.decode("utf-8", "replace")
