"""How processes log: a message for people, a stable ``action`` and named fields for machines, on stderr.

``logger.info("Loaded version %d", 3, extra={"action": "model_loaded", "version": 3})`` becomes

    2026-01-02T03:04:05.678Z INFO  Loaded version 3  action=model_loaded version=3

or, with ``log.format = "json"``, one object a line. Payloads have no place in a log: bytes and arrays are shown by
their size only. Passwords in URLs are masked, whatever wrote them.
"""

from __future__ import annotations

import json
import logging
import math
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from monitor.printable import printable

_CREDENTIALS: Final = re.compile(r"(?<=://)([^:/@\s]*):[^@\s]+(?=@)")
#: Attributes that every record has; all others came in by ``extra``.
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
#: Loggers of this program; libraries speak from WARNING on.
_OWN: Final = ("monitor", "models")


def configure_logging(level: str, *, style: str, stream: TextIO | None = None) -> None:
    """Send logs to ``stream`` (stderr); call once a process. A second call replaces the first.

    Args:
        level: Least level of Narrows' own messages, such as ``"INFO"``.
        style: ``"text"`` or ``"json"``.
        stream: Where to write.
    """
    output = logging.StreamHandler(stream or sys.stderr)
    output.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [output]
    root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level]))
    for name in _OWN:
        logging.getLogger(name).setLevel(level)
    # The Kafka client repeats every failed connection; the worker tells an outage itself, at a falling rate.
    logging.getLogger("kafka").setLevel("WARNING" if level == "DEBUG" else "CRITICAL")


def redact(text: str) -> str:
    """The text with passwords in URLs replaced by asterisks."""
    return _CREDENTIALS.sub(r"\1:***", text)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """The named fields of a log record, ``action`` first, as JSON values."""
    given = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    action = given.pop("action", None)
    ordered = ({"action": action} if action is not None else {}) | given
    return {key: _shown(value) for key, value in ordered.items()}


def _shown(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _shown(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_shown(item) for item in value]
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return redact(_text_of(value))  # JSON has no NaN and no infinity, so they are text too


def _text_of(value: Any) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if shape := getattr(value, "shape", None):
        return f"<array {'x'.join(map(str, shape))}>"
    return value.isoformat() if isinstance(value, datetime) else str(value)


class TextFormatter(logging.Formatter):
    """One line for people; a traceback follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """Render a record."""
        fields = "".join(f" {key}={_quoted(value)}" for key, value in fields_of(record).items())
        head = f"{_time_of(record)} {record.levelname:<7} {printable(redact(record.getMessage()))}"
        line = f"{head} {fields}" if fields else head
        trace = _trace_of(self, record)
        return f"{line}\n{trace}" if trace else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``time``, ``level``, ``message``, ``logger``, the fields, ``exception``."""

    def format(self, record: logging.LogRecord) -> str:
        """Render a record."""
        shown = {
            "time": _time_of(record),
            "level": record.levelname,
            "message": redact(record.getMessage()),
            "logger": record.name,
        }
        for key, value in fields_of(record).items():
            shown.setdefault(key, value)
        if trace := _trace_of(self, record):
            shown["exception"] = trace
        return json.dumps(shown, ensure_ascii=False)


def _quoted(value: Any) -> str:
    text = printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return json.dumps(text, ensure_ascii=False) if " " in text or not text else text


def _time_of(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _trace_of(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    trace = formatter.formatException(record.exc_info) if record.exc_info else record.exc_text or ""
    return redact(trace)
