"""The quick way through a valid JSON record: simdjson straight into a buffer, in less than half of msgspec's time.

It accepts only what is plainly valid: one flat object with exactly the schema's keys and one flat array of numbers. Of
anything else, be it valid or not, it says ``NotPlain``, and ``payloads.JsonPayload`` looks again with msgspec, whose
answer counts. A test holds the two to the same answer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import simdjson

from monitor.settings_streams import RecordSchema

_TEXT_OR_NUMBER = frozenset({str, int, float})
_LABEL = _TEXT_OR_NUMBER | {type(None)}


class Parts(NamedTuple):
    """The parts of one record.

    Attributes:
        features: Float64 values in native order; bytes, or something that gives them.
        sample_id: As written, or None.
        event_time: As written, or None.
        label: As written, or None.
    """

    features: Any
    sample_id: Any
    event_time: Any
    label: Any


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
        self._parse = simdjson.Parser().parse
        self._features = str(schema.features)
        self._id, self._time, self._label = schema.id, schema.event_time, schema.label
        self._dimension = schema.dimension
        required = sum(name is not None for name in (self._features, self._id, self._time))
        self._n_keys = {required, required + (self._label is not None)}

    @staticmethod
    def supports(schema: RecordSchema) -> bool:
        """Whether the parts of a record are different keys of one flat object, and no other keys may be there."""
        given = [path for path in (schema.features, schema.id, schema.event_time, schema.label) if path is not None]
        flat = {path for path in given if isinstance(path, str) and "." not in path}
        return len(flat) == len(given) and schema.extra == "forbid"

    def parse(self, value: bytes) -> Parts:
        """The parts of a record.

        Raises:
            Exception: One of ``NOT_PLAIN``: let msgspec decide.
        """
        # as_buffer flattens nested arrays, so a second bracket anywhere is not plain; nor is a byte order mark.
        if value.count(b"[") != 1 or value[:1] != b"{":
            raise NotPlain
        row: Any = self._parse(value)
        array = row[self._features]
        if len(row) not in self._n_keys or len(array) != self._dimension:  # a key given twice counts twice
            raise NotPlain
        return Parts(
            array.as_buffer(of_type="d"),
            _one_of(row[self._id], _TEXT_OR_NUMBER) if self._id else None,
            _one_of(row[self._time], _TEXT_OR_NUMBER) if self._time else None,
            _one_of(row.get(self._label), _LABEL) if self._label else None,
        )


def _one_of(value: Any, types: frozenset[type]) -> Any:
    if type(value) not in types:
        raise NotPlain
    return value
