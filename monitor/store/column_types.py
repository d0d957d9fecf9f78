"""Column types that mean the same in SQLite and PostgreSQL. No tables here.

What a database cannot hold (NUL and lone surrogates in text, numbers that are not finite in JSON) is replaced here,
at the border, and nowhere else.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect

Headers = tuple[tuple[str, bytes | None], ...]

#: Surrogate key. INTEGER on SQLite, where only this spelling makes the column the row id.
BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

#: JSON that PostgreSQL can index. Written by ``dump_json`` through the engine's serialiser.
Json = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def clean_text(value: str) -> str:
    """The text without what PostgreSQL refuses: NUL becomes U+FFFD, a lone surrogate too."""
    if "\x00" in value:
        value = value.replace("\x00", _REPLACEMENT)
    try:
        value.encode()
    except UnicodeEncodeError:
        value = "".join(_REPLACEMENT if "\ud800" <= character <= "\udfff" else character for character in value)
    return value


def clean_json(value: Any) -> Any:
    """The value as both databases take it in JSON: clean text, plain Python numbers, None for what is not finite."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, Mapping):
        return {clean_text(str(name)): clean_json(item) for name, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return clean_json(value.tolist())
    if isinstance(value, Sequence):
        return [clean_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def dump_json(value: Any) -> str:
    """Serialise for a JSON column; the common, clean value takes the short way."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()
    except (TypeError, ValueError):
        return json.dumps(clean_json(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text if "\\u0000" not in text else json.dumps(clean_json(value), ensure_ascii=False, separators=(",", ":"))


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """Aware datetime, UTC on the way in and out.

    PostgreSQL keeps ``timestamptz``. SQLite keeps text such as ``2026-01-31 23:59:59.000000``: of fixed width, so that
    it sorts as time does, and in the form that SQLite's own date functions take and give.
    """

    impl = sa.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> sa.types.TypeEngine[Any]:
        """Text on SQLite, ``timestamptz`` elsewhere."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(sa.String(26))
        return dialect.type_descriptor(sa.DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Refuse a naive time, which could mean anything."""
        if value is None:
            return None
        if value.tzinfo is None:
            msg = f"a naive datetime has no place in the store: {value!r}"
            raise ValueError(msg)
        value = value.astimezone(UTC)
        return value.isoformat(" ", "microseconds")[:26] if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        """Aware, UTC, whatever the session's time zone is."""
        del dialect
        if value is None:
            return None
        if isinstance(value, str):
            return datetime.fromisoformat(value).replace(tzinfo=UTC)
        return value.astimezone(UTC) if isinstance(value, datetime) else None


class SafeText(sa.types.TypeDecorator[str]):
    """Text of any length from the outside world: keys, labels, messages."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Replace what PostgreSQL refuses."""
        del dialect
        return None if value is None else clean_text(value)


class _FloatArray(sa.types.TypeDecorator[NDArray[Any]]):
    """One-dimensional array as its bytes; read back as a read-only view of them, without a copy."""

    impl = sa.LargeBinary
    cache_ok = True
    _dtype = "<f8"

    def process_bind_param(self, value: NDArray[Any] | None, dialect: Dialect) -> bytes | None:
        """Little-endian bytes, whatever the machine."""
        del dialect
        return None if value is None else np.ascontiguousarray(value, self._dtype).tobytes()

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> NDArray[Any] | None:
        """The array, shape (D,)."""
        del dialect
        return None if value is None else np.frombuffer(value, self._dtype)


class Float32Array(_FloatArray):
    """Features: little-endian float32, 4 bytes a number. In SQL: ``length(features) / 4`` is D."""

    cache_ok = True
    _dtype = "<f4"


class Float64Array(_FloatArray):
    """Calibration scores: little-endian float64.

    Not float32: "p-value at most alpha" and "score above threshold" are the same decision only at full precision.
    """

    cache_ok = True
    _dtype = "<f8"


class RecordHeaders(sa.types.TypeDecorator[Headers]):
    """Kafka headers in order, as JSON that reads well and loses nothing.

    ``[{"name": "trace", "text": "abc"}, {"name": "raw", "base64": "/w=="}, {"name": "empty", "text": null}]``
    """

    impl = sa.JSON
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> sa.types.TypeEngine[Any]:
        """JSONB on PostgreSQL."""
        return dialect.type_descriptor(JSONB() if dialect.name == "postgresql" else sa.JSON())

    def process_bind_param(self, value: Headers | None, dialect: Dialect) -> Any:
        """Text where the bytes are UTF-8 without NUL, else base64."""
        del dialect
        return None if value is None else [_header_to_json(name, content) for name, content in value]

    def process_result_value(self, value: Any | None, dialect: Dialect) -> Headers | None:
        """Raw headers again."""
        del dialect
        return None if value is None else tuple((item["name"], _header_from_json(item)) for item in value)


def _header_to_json(name: str, content: bytes | None) -> dict[str, str | None]:
    if content is None:
        return {"name": name, "text": None}
    try:
        text = bytes(content).decode()
    except UnicodeDecodeError:
        text = "\x00"
    if "\x00" in text:
        return {"name": name, "base64": base64.b64encode(content).decode("ascii")}
    return {"name": name, "text": text}


def _header_from_json(item: Mapping[str, str | None]) -> bytes | None:
    if (encoded := item.get("base64")) is not None:
        return base64.b64decode(encoded)
    text = item.get("text")
    return None if text is None else text.encode()
