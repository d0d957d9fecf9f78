"""JSON payloads: a quick look with simdjson, and msgspec's word on whatever is not plainly valid.

One msgspec decoder is compiled from the schema; it parses and validates in one pass, and its messages name the place
(decision 3 in README).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Annotated, Any

import msgspec
import numpy as np

from monitor.fast_json import NOT_PLAIN, FastJson, Parts
from monitor.payloads import Columns, Rejected
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
_LOOK_AGAIN = (*NOT_PLAIN, *_MALFORMED)


Getter = Callable[[Any], Any]
_Tree = dict[str, Any]


class JsonPayload:
    """JSON objects with exactly the fields of the schema."""

    def __init__(self, schema: RecordSchema) -> None:
        self._dimension = schema.dimension
        self._strict = StrictJson(schema).parse
        self._quick = FastJson(schema).parse if FastJson.supports(schema) else self._strict
        self._has_time = schema.event_time is not None

    def rows(self, records: Sequence[RawRecord]) -> tuple[list[RawRecord], Columns, list[Rejected]]:
        """Parse one by one, stack at once."""
        quick = self._quick
        kept: list[RawRecord] = []
        parsed: list[Parts] = []
        rejected: list[Rejected] = []
        for record in records:
            try:
                parts = quick(record.value or b"")
            except _LOOK_AGAIN:
                try:
                    parts = self._strict(record.value or b"")
                except _MALFORMED as error:
                    rejected.append(_malformed(record, error))
                    continue
            parsed.append(parts)
            kept.append(record)
        return kept, self._columns(parsed), rejected

    def _columns(self, parsed: list[Parts]) -> Columns:
        features, sample_ids, event_times, labels = zip(*parsed, strict=True) if parsed else ((), (), (), ())
        return Columns(
            features=np.frombuffer(b"".join(features), dtype=np.float64).reshape(len(parsed), self._dimension),
            event_times=event_times if self._has_time else None,
            sample_ids=sample_ids,
            labels=labels,
        )


class StrictJson:
    """Parses and validates with msgspec; what it raises says what is wrong, and where."""

    def __init__(self, schema: RecordSchema) -> None:
        shape, names = _struct_for(schema)
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(shape).decode
        # struct reads a list of floats about twice as fast as numpy does.
        self._pack = struct.Struct(f"={schema.dimension}d").pack
        self._features = names["features"]
        self._id: Getter = names.get("id", _nothing)
        self._time: Getter = names.get("event_time", _nothing)
        self._label: Getter = names.get("label", _nothing)

    def parse(self, value: bytes) -> Parts:
        """The parts of a record.

        Raises:
            Exception: One of ``_MALFORMED``.
        """
        row = self._decode(value)
        return self._pack(*self._features(row)), self._id(row), self._time(row), self._label(row)


def _nothing(_row: Any) -> None:
    """A part that the stream does not have."""


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
