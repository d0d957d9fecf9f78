"""Payload formats: bytes to columns, by the stream's schema. A new format is a class here and a word in the settings.

JSON goes through one msgspec decoder compiled from the schema: it parses and validates in one pass, and its messages
name the place (decision 3 in README: pydantic, at 10 us a record, would cost more than the rest of the pipeline).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Annotated, Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from monitor.records import RawRecord
from monitor.settings_streams import RecordSchema

#: A part of a msgspec message and the stable reason that it stands for, in the order in which they are tried.
_REASONS = (
    ("missing required field", "missing-field"),
    ("unknown field", "extra-field"),
    ("of length", "wrong-dimension"),
    ("out of range", "out-of-range"),
    ("Expected", "wrong-type"),
)


#: What msgspec raises for a payload that is not a valid record.
_MALFORMED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


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


class JsonPayload:
    """JSON objects with exactly the fields of the schema."""

    def __init__(self, schema: RecordSchema) -> None:
        self._dimension = schema.dimension
        shape, names = _struct_for(schema)
        self._decode: Callable[[Any], Any] = msgspec.json.Decoder(shape).decode
        self._pack = struct.Struct(f"<{schema.dimension}d").pack
        self._features = names["features"]
        self._id, self._time, self._label = names.get("id"), names.get("event_time"), names.get("label")

    def rows(self, records: Sequence[RawRecord]) -> tuple[list[RawRecord], Columns, list[Rejected]]:
        """Decode one by one, stack at once."""
        try:  # nearly always all are valid, and then the loop is a comprehension
            return list(records), self._columns([self._decode(record.value) for record in records]), []
        except _MALFORMED:
            return self._sift(records)

    def _sift(self, records: Sequence[RawRecord]) -> tuple[list[RawRecord], Columns, list[Rejected]]:
        """The same, when some record is malformed."""
        kept, parsed, rejected = [], [], []
        for record in records:
            try:
                parsed.append(self._decode(record.value))
            except _MALFORMED as error:
                rejected.append(_malformed(record, error))
            else:
                kept.append(record)
        return kept, self._columns(parsed), rejected

    def _columns(self, parsed: list[Any]) -> Columns:
        # struct reads a list of floats about twice as fast as numpy does.
        joined = b"".join([self._pack(*row) for row in map(self._features, parsed)])
        none = [None] * len(parsed)
        return Columns(
            features=np.frombuffer(joined, dtype="<f8").reshape(len(parsed), self._dimension),
            event_times=list(map(self._time, parsed)) if self._time else None,
            sample_ids=list(map(self._id, parsed)) if self._id else none,
            labels=list(map(self._label, parsed)) if self._label else none,
        )


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


def _malformed(record: RawRecord, error: Exception) -> Rejected:
    message = str(error)
    if isinstance(error, RecursionError):
        return Rejected(record, "too-deep", "the payload is nested too deeply", "RecursionError")
    if not isinstance(error, msgspec.ValidationError):
        if any(word in (record.value or b"") for word in (b"NaN", b"Infinity")):
            return Rejected(record, "not-finite", f"JSON has no NaN or Infinity: {message}", type(error).__name__)
        return Rejected(record, "invalid-json", message, type(error).__name__)
    reason = next((word for part, word in _REASONS if part in message), "schema-violation")
    return Rejected(record, reason, message, type(error).__name__)


def _text(key: bytes | None) -> str | None:
    return None if key is None else key.decode("utf-8", "replace")


Getter = Callable[[Any], Any]
_Tree = dict[str, Any]


def _struct_for(schema: RecordSchema) -> tuple[type, dict[str, Getter]]:
    """A msgspec struct for the schema and the getters of its columns.

    Names in payloads are free text, so fields are called ``f0``, ``f1``, ... and renamed on the wire.
    """
    number = float
    fixed = Annotated[list[float], msgspec.Meta(min_length=schema.dimension, max_length=schema.dimension)]
    tree: _Tree = {}
    getters: dict[str, Getter] = {}
    if isinstance(schema.features, str):
        getters["features"] = attrgetter(_plant(tree, schema.features, fixed))
    else:
        paths = [_plant(tree, path, number) for path in schema.features]
        getters["features"] = attrgetter(*paths) if len(paths) > 1 else _single(attrgetter(paths[0]))
    if schema.id:
        getters["id"] = attrgetter(_plant(tree, schema.id, str | int | float))
    if schema.event_time:
        getters["event_time"] = attrgetter(_plant(tree, schema.event_time, float | str))
    if schema.label:
        getters["label"] = attrgetter(_plant(tree, schema.label, str | int | float | None, optional=True))
    return _grow(tree, forbid=schema.extra == "forbid"), getters


def _plant(tree: _Tree, path: str, leaf: Any, *, optional: bool = False) -> str:
    """Put a leaf at a dotted path; return the attribute path that reads it."""
    attributes = []
    *parents, last = path.split(".")
    for name in parents:
        attributes.append(_attribute(tree, name))
        tree = tree.setdefault(name, {})
    attributes.append(_attribute(tree, last))
    tree[last] = (leaf, optional)
    return ".".join(attributes)


def _attribute(tree: _Tree, name: str) -> str:
    return f"f{list(tree).index(name) if name in tree else len(tree)}"


def _grow(tree: _Tree, *, forbid: bool) -> type:
    fields: list[Any] = []
    rename = {}
    for place, (name, node) in enumerate(tree.items()):
        rename[f"f{place}"] = name
        if isinstance(node, dict):
            fields.append((f"f{place}", _grow(node, forbid=forbid)))
        else:
            leaf, optional = node
            fields.append((f"f{place}", leaf, None) if optional else (f"f{place}", leaf))
    return msgspec.defstruct(
        "Record", fields, rename=rename, forbid_unknown_fields=forbid, kw_only=True, gc=False, frozen=True
    )


def _single(getter: Getter) -> Getter:
    return lambda row: (getter(row),)
