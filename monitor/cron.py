"""Cron fields with lists of numbers instead of names, ranges and steps. Pure text; calendars are the scheduler's."""

from __future__ import annotations

from typing import Final

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


def month_numbers(field: str) -> list[int]:
    """Months of a cron field, 1 to 12, in order."""
    return _expand(field, names=_MONTHS, low=1, high=12)


def weekday_names(field: str) -> list[str]:
    """Weekdays of a cron field by name: cron counts from Sunday, others from Monday, names mean the same to all."""
    numbers = {number % 7 for number in _expand(field, names=_WEEKDAYS, low=0, high=7 if "7" in field else 6)}
    return [_WEEKDAYS[number] for number in sorted(numbers)]


def _expand(field: str, *, names: tuple[str, ...], low: int, high: int) -> list[int]:
    found: set[int] = set()
    for part in field.lower().split(","):
        span, _, step = part.partition("/")
        first, last = _span(span, names=names, low=low, high=high, open_ended=bool(step))
        found.update(range(first, last + 1, int(step or 1)))
    return sorted(found)


def _span(span: str, *, names: tuple[str, ...], low: int, high: int, open_ended: bool) -> tuple[int, int]:
    if span == "*":
        return low, high
    first, dash, last = span.partition("-")
    start = _number(first, names=names, low=low)
    if dash:
        return start, _number(last, names=names, low=low)
    return start, high if open_ended else start


def _number(word: str, *, names: tuple[str, ...], low: int) -> int:
    return names.index(word) + low if word in names else int(word)
