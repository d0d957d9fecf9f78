"""What commands print: tables that fit, JSON that parses, bars, progress. Results to stdout, talk to stderr."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import typer

from monitor.printable import printable

if TYPE_CHECKING:
    from models.api import Progress

_GAP: Final = "  "
_SHORTEST: Final = 12  # a flexible column narrower than this reads worse than blocks do
_LONGEST: Final = 60  # of a cell that is not broken into lines; what producers write must not make a table unreadable
_LONGEST_TEXT: Final = 300  # of one that is
_UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        name: Heading.
        flexible: Long text that may be broken into lines; other columns, such as ids, are shown whole.
        right: Whether numbers line up at the right.
    """

    name: str
    flexible: bool = False
    right: bool = False


def say(text: str) -> None:
    """Tell a person something that is no result, in lines that fit the terminal."""
    width = shutil.get_terminal_size().columns if sys.stderr.isatty() else 100_000
    typer.echo("\n".join(piece for line in text.split("\n") for piece in _broken(line, width)), err=True)


def emit_json(value: Any) -> None:
    """Print a result for programs; ASCII, so that no text in it can disturb a terminal."""
    typer.echo(json.dumps(jsonable(value), indent=2, allow_nan=False))


def jsonable(value: Any) -> Any:
    """The value as JSON has it: times as ISO 8601 in UTC, NaN and infinity as null, bytes as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: jsonable(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(item) for item in value]
    if hasattr(value, "tolist"):  # arrays and numbers of numpy, which is not imported for this
        return jsonable(value.tolist())
    return _scalar(value)


def _scalar(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="backslashreplace")
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """Print rows so that they fit the terminal; as blocks of ``name: value`` where that is too narrow.

    Args:
        columns: What the values of a row are.
        rows: Values; None is shown as a dash.
        empty: What to say (on stderr) when there are no rows.
    """
    if not rows:
        say(empty)
        return
    limits = [_LONGEST_TEXT if column.flexible else _LONGEST for column in columns]
    cells = [
        ["-" if value is None else _cut(printable(str(value)), limit) for value, limit in zip(row, limits, strict=True)]
        for row in rows
    ]
    for line in table_lines(columns, cells, width=_width()):
        typer.echo(line)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _width() -> int:
    # A program that reads lines wants each row on one, whatever its length.
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 100_000


def table_lines(columns: Sequence[Column], cells: Sequence[Sequence[str]], *, width: int) -> Iterator[str]:
    """Lines of a table of at most ``width`` characters; ids are never cut."""
    widths = [max(len(column.name), *(len(row[i]) for row in cells)) for i, column in enumerate(columns)]
    surplus = sum(widths) + len(_GAP) * (len(columns) - 1) - width
    for i in sorted(range(len(columns)), key=lambda i: -widths[i]):
        if surplus > 0 and columns[i].flexible and widths[i] > _SHORTEST:
            cut = min(surplus, widths[i] - max(_SHORTEST, len(columns[i].name)))
            widths[i] -= cut
            surplus -= cut
    if surplus > 0:
        yield from _blocks(columns, cells)
        return
    yield from _row_lines([column.name for column in columns], columns, widths)
    for row in cells:
        yield from _row_lines(row, columns, widths)


def _row_lines(row: Sequence[str], columns: Sequence[Column], widths: Sequence[int]) -> Iterator[str]:
    broken = [_broken(cell, width) for cell, width in zip(row, widths, strict=True)]
    for i in range(max(map(len, broken))):
        pieces = [lines[i] if i < len(lines) else "" for lines in broken]
        yield _GAP.join(
            piece.rjust(width) if column.right else piece.ljust(width)
            for piece, column, width in zip(pieces, columns, widths, strict=True)
        ).rstrip()


def _broken(text: str, width: int) -> list[str]:
    """The text in lines of at most ``width`` characters, at spaces where possible."""
    lines = []
    while len(text) > width:
        at = text.rfind(" ", 1, width + 1)
        at = at if at > 0 else width
        lines.append(text[:at])
        text = text[at:].lstrip(" ")
    return [*lines, text]


def _blocks(columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> Iterator[str]:
    for number, row in enumerate(cells):
        if number:
            yield ""
        for column, cell in zip(columns, row, strict=True):
            yield f"{column.name}: {cell}"


def print_fields(pairs: Sequence[tuple[str, object]]) -> None:
    """Print one thing: a name and a value a line."""
    width = max(len(name) for name, _ in pairs)
    room = max(_SHORTEST, _width() - width - len(_GAP))
    for name, value in pairs:
        first, *others = _broken("-" if value is None else printable(str(value)), room)
        typer.echo(f"{name:<{width}}{_GAP}{first}")
        for line in others:
            typer.echo(f"{'':<{width}}{_GAP}{line}")


def bar(value: float, *, largest: float, width: int = 24) -> str:
    """A horizontal bar, ``width`` characters long for ``largest``; empty for what is not above zero."""
    share = max(0.0, min(1.0, value / largest)) if largest > 0 else 0.0
    block = "█" if (sys.stdout.encoding or "").lower().replace("-", "") == "utf8" else "#"
    return block * math.ceil(share * width)


def number(value: float | None) -> str:
    """A number for people: four digits that count."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.4g}"


def percent(fraction: float | None) -> str:
    """A fraction as a percentage."""
    return "-" if fraction is None or not math.isfinite(fraction) else f"{100 * fraction:.2f} %"


def ago(moment: datetime | None, *, now: datetime) -> str | None:
    """How long ago (or until when) in one unit, such as ``"3 min ago"``."""
    if moment is None:
        return None
    seconds = (now - moment).total_seconds()
    unit, size = next(((unit, size) for unit, size in _UNITS if abs(seconds) >= size), ("s", 1))
    count = int(abs(seconds) // size)
    if not count:
        return "now"
    return f"{count} {unit} ago" if seconds > 0 else f"in {count} {unit}"


def timestamp(moment: datetime | None) -> str | None:
    """A time for people, UTC, to the second."""
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar on stderr while something long runs; nothing at all where stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield lambda _fraction, _line: None
        return

    def show(fraction: float, line: str) -> None:
        room = max(10, shutil.get_terminal_size().columns - 34)
        filled = "=" * int(max(0.0, min(1.0, fraction)) * 24)
        sys.stderr.write(f"\r\x1b[K[{filled:<24}] {fraction:4.0%} {printable(line)[:room]}")
        sys.stderr.flush()

    try:
        yield show
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """The same bar for what is counted: called with how many are done and how many there are."""
    with progress_bar() as show:
        yield lambda done, total: show(done / total if total else 1.0, f"{title}: {done:,} of {total:,}")
