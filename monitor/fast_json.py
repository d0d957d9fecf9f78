"""The quick way through a valid JSON record: simdjson straight into a buffer, in less than half of msgspec's time.

It accepts only what is plainly valid: one flat object with exactly the schema's keys and one flat array of numbers. Of
anything else, be it valid or not, it says ``NotPlain``, and ``payloads.JsonPayload`` looks again with msgspec, whose
answer counts. A test holds the two to the same answer.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from monitor.settings_streams import RecordSchema

_BRACE = ord("{")
_TEXT_OR_NUMBER = frozenset({str, int, float})
_LABEL = _TEXT_OR_NUMBER | {type(None)}


#: Features (float64 in native order; bytes, or something that gives them), id, event time and label as written; None or
#: "" for a part that the stream does not have. A plain tuple: one is made for every record.
Parts = tuple[Any, Any, Any, Any]


class NotPlain(Exception):  # noqa: N818 - not an error: somebody else looks
    """The record is not plainly valid."""


#: All that a record which is not plain can raise.
NOT_PLAIN = (NotPlain, ValueError, KeyError, TypeError, RuntimeError, AttributeError)


class FastJson:
    """Parses records of one stream. Not thread-safe: the parser's memory is used again for the next record.

    Args:
        schema: Of the stream; ``supports`` must hold for it.
    """

    def __init__(self, schema: RecordSchema) -> None:
        self._parse = import_module("simdjson").Parser().parse
        self._features = str(schema.features)
        self._id, self._time, self._label = schema.id, schema.event_time, schema.label
        self._dimension = schema.dimension
        required = sum(name is not None for name in (self._features, self._id, self._time))
        self._n_keys = {required, required + (self._label is not None)}

    @staticmethod
    def supports(schema: RecordSchema) -> bool:
        """Whether simdjson is there, and a record is one flat object of different keys and no others."""
        if find_spec("simdjson") is None:  # there is no wheel for every Python: then msgspec reads all records
            return False
        given = [path for path in (schema.features, schema.id, schema.event_time, schema.label) if path is not None]
        flat = {path for path in given if isinstance(path, str) and "." not in path}
        return len(flat) == len(given) and schema.extra == "forbid"

    def parse(self, value: bytes) -> Parts:
        """The parts of a record.

        Raises:
            Exception: One of ``NOT_PLAIN``: let msgspec decide.
        """
        # as_buffer flattens nested arrays, so a second bracket anywhere is not plain; nor is a byte order mark.
        if value.count(b"[") != 1 or value[0] != _BRACE:
            raise NotPlain
        row: Any = self._parse(value)
        array = row[self._features]
        sample_id = row[self._id] if self._id else ""
        event_time = row[self._time] if self._time else ""
        label = row.get(self._label) if self._label else None
        if (
            len(row) not in self._n_keys  # a key given twice counts twice
            or len(array) != self._dimension
            or type(sample_id) not in _TEXT_OR_NUMBER
            or type(event_time) not in _TEXT_OR_NUMBER
            or type(label) not in _LABEL
        ):
            raise NotPlain
        return array.as_buffer(of_type="d"), sample_id, event_time, label
