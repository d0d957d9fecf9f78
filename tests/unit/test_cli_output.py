"""What commands print: tables that fit, JSON that parses, numbers and times for people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from monitor.checks import Finding
from monitor.cli import app, check
from monitor.cli.lazy import print_error
from monitor.cli.output import Column, ago, bar, emit_json, jsonable, number, percent, print_table, table_lines
from monitor.errors import StoreUnavailable

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
COLUMNS = (Column("id", right=True), Column("text", flexible=True), Column("sha"))


@dataclass(frozen=True)
class Row:
    """A row of a table."""

    at: datetime
    features: np.ndarray


class TestTables:
    def test_table_lines_up_columns(self) -> None:
        """Numbers at the right, no blanks at the end."""
        lines = list(table_lines(COLUMNS, [["1", "a", "x"], ["22", "b c", "y"]], width=80))
        assert lines == ["id  text  sha", " 1  a     x", "22  b c   y"]

    def test_table_breaks_long_text_and_no_id(self) -> None:
        """At spaces, within the width."""
        lines = list(table_lines(COLUMNS, [["1", "some words that are long", "f" * 12]], width=36))
        assert lines == [
            "id  text                sha",
            " 1  some words that     ffffffffffff",
            "    are long",
        ]

    def test_table_becomes_blocks_when_it_cannot_fit(self) -> None:
        """An id is never cut."""
        lines = list(table_lines(COLUMNS, [["1", "a", "f" * 64], ["2", "b", "e" * 64]], width=40))
        assert lines == ["id: 1", "text: a", "sha: " + "f" * 64, "", "id: 2", "text: b", "sha: " + "e" * 64]

    def test_what_producers_write_does_not_decide_the_width(self, capsys: pytest.CaptureFixture[str]) -> None:
        """A key of a hundred thousand letters is cut, also where the output is piped."""
        print_table(COLUMNS, [[1, "t" * 100_000, "k" * 100_000]], empty="none")
        line = capsys.readouterr().out.splitlines()[1]
        assert line.endswith("k" * 59 + "…")
        assert len(line) < 400

    @given(st.lists(st.text("ab ", max_size=60), min_size=1, max_size=5), st.integers(20, 90))
    def test_no_line_is_wider_than_asked_unless_in_blocks(self, texts: list[str], width: int) -> None:
        """For any text; and no letter is lost."""
        cells = [["1", text, "abc"] for text in texts]
        lines = list(table_lines(COLUMNS, cells, width=width))
        if not lines[0].startswith("id: "):
            assert max(map(len, lines)) <= width
        shown = "".join(lines[1:] if lines[0].startswith("id") else lines)
        assert shown.count("b") >= sum(text.count("b") for text in texts)


class TestJson:
    def test_jsonable_has_times_in_utc_and_no_nan(self) -> None:
        """Whatever types a row is made of."""
        row = Row(NOW.astimezone(tz=None), np.array([1.5, np.nan], dtype=np.float32))
        assert jsonable(row) == {"at": "2026-01-02T03:04:05Z", "features": [1.5, None]}
        assert jsonable({"a": (1, b"x\xff"), "p": Path("p")}) == {"a": [1, "x\\xff"], "p": "p"}

    def test_emit_json_is_ascii(self, capsys: pytest.CaptureFixture[str]) -> None:
        """No text in a result can disturb a terminal."""
        emit_json({"key": "\x1b\x9b\u202e é"})
        out = capsys.readouterr().out
        assert out.isascii()
        assert json.loads(out) == {"key": "\x1b\x9b\u202e é"}


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.4, "now"), (59, "59 s ago"), (61, "1 min ago"), (7200, "2 h ago"), (200_000, "2 d ago"), (-90, "in 1 min")],
)
def test_ago_uses_one_unit(seconds: float, shown: str) -> None:
    """The largest that fits."""
    assert ago(NOW - timedelta(seconds=seconds), now=NOW) == shown


def test_numbers_are_short_and_honest() -> None:
    """Four digits that count; what is no number is a dash."""
    assert (number(1234.56), number(0.000123456), number(float("nan"))) == ("1235", "0.0001235", "-")
    assert (percent(0.01234), percent(None)) == ("1.23 %", "-")


def test_bar_is_as_long_as_the_value() -> None:
    """Never longer than its width, empty below zero, visible above."""
    assert [len(bar(value, largest=2.0, width=10)) for value in (-1, 0, 0.001, 1, 2, 3)] == [0, 0, 1, 5, 10, 10]
    assert bar(1, largest=0) == ""


def test_error_is_told_with_causes_that_add_something(capsys: pytest.CaptureFixture[str]) -> None:
    """A cause that the message already quotes is not repeated; control characters are escaped."""
    error = StoreUnavailable("No answer: refused.")
    error.__cause__ = OSError("refused")
    error.__cause__.__cause__ = OSError("port \x1b closed")
    print_error(error)
    assert capsys.readouterr().err == "Error: No answer: refused.\n  because: port \\x1b closed\n"


class TestCheck:
    @pytest.fixture(autouse=True)
    def _findings(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        # The command would send the logs of all later tests to a stream that is closed by then.
        monkeypatch.setattr("monitor.logs.configure_logging", lambda *_, **__: None)

        def check_all(*_: object) -> Iterator[Finding]:
            yield Finding("config", None, "ok", "good")
            yield Finding("topic", "gas", "warn", "odd", "Look.")

        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(check, "check_all", check_all)

    def test_check_prints_a_line_a_finding_and_what_to_do(self) -> None:
        """A warning is no failure."""
        ended = CliRunner().invoke(app, ["check"])
        assert ended.exit_code == 0
        assert ended.stdout == "ok    config: good\nwarn  topic gas: odd\n      Look.\n"

    def test_check_prints_findings_for_programs(self) -> None:
        """With one word for the whole."""
        shown = json.loads(CliRunner().invoke(app, ["check", "--json"]).stdout)
        assert shown["ok"]
        assert shown["findings"][1] == {
            "check": "topic", "stream": "gas", "status": "warn", "detail": "odd", "remedy": "Look.",
        }  # fmt: skip
