"""Logs: readable by people, parsed by machines, and silent about secrets and payloads."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from monitor.logs import configure_logging, redact
from monitor.printable import printable, printable_bytes


@pytest.fixture
def logged() -> Iterator[Callable[..., str]]:
    """Log one message in a style; returns what was written."""
    root = logging.getLogger()
    before = root.handlers[:], root.level

    def log(message: str, *arguments: Any, style: str, trace: Exception | None = None, **fields: Any) -> str:
        stream = io.StringIO()
        configure_logging("INFO", style=style, stream=stream)
        logging.getLogger("monitor.test").info(message, *arguments, exc_info=trace, extra=fields)
        return stream.getvalue()

    yield log
    root.handlers[:] = before[0]
    root.setLevel(before[1])


def test_text_has_message_then_action_then_fields(logged: Callable[..., str]) -> None:
    """On one line, text with spaces in quotes."""
    line = logged("Loaded version %d", 3, style="text", version=3, cause="a b", action="model_loaded")
    assert line.endswith('Z INFO    Loaded version 3  action=model_loaded version=3 cause="a b"\n')


def test_json_is_one_object_a_line(logged: Callable[..., str]) -> None:
    """With the same names, and values that JSON has."""
    line = logged(
        "Fit\nended", style="json", action="fit", loss=float("nan"), at=datetime(2026, 1, 2, tzinfo=UTC), by={"k": (1,)}
    )
    assert line.count("\n") == 1
    shown = json.loads(line, parse_constant=pytest.fail)
    assert shown["message"] == "Fit\nended"
    assert shown["action"] == "fit"
    assert shown["loss"] == "nan"
    assert shown["at"] == "2026-01-02T00:00:00+00:00"
    assert shown["by"] == {"k": [1]}
    assert shown["logger"] == "monitor.test"


@pytest.mark.parametrize("style", ["text", "json"])
def test_nothing_shows_payloads_or_passwords(logged: Callable[..., str], style: str) -> None:
    """Bytes and arrays by their size; passwords in URLs not at all, wherever they stand."""
    line = logged(
        "To %s",
        "postgresql://u:s3cret@h/d",
        style=style,
        payload=b"s3cret",
        x=np.ones((2, 3)),
        url="redis://u:s3cret@h",
    )
    assert "s3cret" not in line
    assert "<6 bytes>" in line
    assert "<array 2x3>" in line


@pytest.mark.parametrize("style", ["text", "json"])
def test_stack_trace_is_kept_without_secrets(logged: Callable[..., str], style: str) -> None:
    """A driver puts the URL into its error."""
    error = ValueError("cannot connect to postgresql://u:s3cret@h/d")
    line = logged("Failed", style=style, trace=error)
    assert "ValueError: cannot connect to postgresql://u:***@h/d" in line


def test_text_cannot_be_forged_by_a_record(logged: Callable[..., str]) -> None:
    """A line end or an escape sequence in a key does not begin a line or colour a terminal."""
    line = logged("Key %s", "k\n2026 ERROR \x1b[31mforged", style="text", key="a\r\nb")
    assert line.count("\n") == 1
    assert "\x1b" not in line


def test_libraries_are_heard_from_warning_on(logged: Callable[..., str]) -> None:
    """Their INFO would drown ours."""
    stream = io.StringIO()
    configure_logging("DEBUG", style="text", stream=stream)
    logging.getLogger("kafka").info("hidden")
    logging.getLogger("kafka").warning("shown")
    logging.getLogger("monitor.x").debug("ours")
    assert "hidden" not in stream.getvalue()
    assert "shown" in stream.getvalue()
    assert "ours" in stream.getvalue()


def test_kafka_client_is_silent_unless_debugging(logged: Callable[..., str]) -> None:
    """It repeats every failed connection, several times a second; the worker tells an outage itself."""
    stream = io.StringIO()
    configure_logging("INFO", style="text", stream=stream)
    logging.getLogger("kafka.net").error("connection refused")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("text", ["https://example.org/a:b@c", "a@b", "no url"])
def test_redact_leaves_other_text_alone(text: str) -> None:
    """A colon and an at-sign do not make a password."""
    assert redact(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 漢", "plain é 漢"),
        ("a\tb\x1b[0m", "a\\tb\\x1b[0m"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\x9b1m", "\\x9b1m"),
    ],
)
def test_printable_escapes_only_what_disturbs(text: str, shown: str) -> None:
    """Letters of all languages stay."""
    assert printable(text) == shown


def test_printable_bytes_cuts_and_escapes() -> None:
    """What is not UTF-8 is shown by its bytes."""
    assert printable_bytes(b"ok\xff\x00") == "ok\\xff\\x00"
    assert printable_bytes(b"x" * 10, limit=4) == "xxxx..."
