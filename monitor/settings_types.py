"""Types of the configuration that TOML and pydantic do not have: durations and schedules. No settings here."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, PlainSerializer

_UNITS: Final = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_DURATION: Final = re.compile(rf"(?:{_PART.pattern})+")
_DURATION_HELP: Final = 'write a number and a unit (ms, s, m, h, d, w), such as "500ms", "15m" or "90d"'

_CRON_FIELDS: Final = (("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12), ("weekday", 0, 7))
_CRON_NAMES: Final = {
    "month": ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"),
    "weekday": ("sun", "mon", "tue", "wed", "thu", "fri", "sat"),
}


def parse_duration(value: object) -> timedelta:
    """Duration from text such as ``"500ms"``, ``"15m"`` or ``"1h30m"``; a ``timedelta`` passes as it is.

    Raises:
        ValueError: No unit, not a duration, zero, or longer than ``timedelta`` can hold.
    """
    if isinstance(value, timedelta):
        duration = value
    else:
        text = str(value).strip()
        if not isinstance(value, str) or _DURATION.fullmatch(text) is None:
            raise ValueError(f"{value!r} is not a duration: {_DURATION_HELP}")
        duration = _sum_of_parts(text)
    if duration <= timedelta(0):
        raise ValueError(f"{value!r} is not longer than zero: {_DURATION_HELP}")
    return duration


def _sum_of_parts(text: str) -> timedelta:
    try:
        return sum((float(number) * _UNITS[unit] for number, unit in _PART.findall(text)), timedelta(0))
    except OverflowError as error:
        raise ValueError(f"{text!r} is too long a duration") from error


def format_duration(duration: timedelta) -> str:
    """Shortest text that ``parse_duration`` reads back as the same duration, to the millisecond."""
    rest = duration // _UNITS["ms"]
    parts = []
    for unit in ("d", "h", "m", "s", "ms"):
        count, rest = divmod(rest, _UNITS[unit] // _UNITS["ms"])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0ms"


Duration = Annotated[timedelta, BeforeValidator(parse_duration), PlainSerializer(format_duration)]


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a job runs: after every ``interval``, or by a cron expression in UTC, or (both None) never.

    Attributes:
        interval: Time between two starts.
        cron: Five fields: minute, hour, day of month, month, weekday (0 and 7 are Sunday).
    """

    interval: timedelta | None = None
    cron: str | None = None

    @property
    def enabled(self) -> bool:
        """Whether the job runs at all."""
        return self.interval is not None or self.cron is not None

    def __str__(self) -> str:
        """The text that ``parse_schedule`` reads back."""
        if self.interval is not None:
            return format_duration(self.interval)
        return f"cron: {self.cron}" if self.cron is not None else "off"


def parse_schedule(value: object) -> Schedule:
    """Schedule from a duration, ``"cron: 0 3 * * *"`` or ``"off"``.

    Raises:
        ValueError: None of these; the message says which part is wrong.
    """
    if isinstance(value, Schedule):
        return value
    text = str(value).strip()
    if text == "off":
        return Schedule()
    if text.startswith("cron:"):
        return Schedule(cron=_parse_cron(text.removeprefix("cron:")))
    try:
        return Schedule(interval=parse_duration(value))
    except ValueError as error:
        raise ValueError(f'{error}; or "cron: <minute> <hour> <day> <month> <weekday>", or "off"') from error


def _parse_cron(text: str) -> str:
    fields = text.lower().split()
    if len(fields) != len(_CRON_FIELDS):
        raise ValueError(
            f'cron "{text.strip()}" has {len(fields)} fields, not 5: minute hour day month weekday, as in "0 3 * * *"'
        )
    for field, (name, low, high) in zip(fields, _CRON_FIELDS, strict=True):
        for part in field.split(","):
            if not _cron_part_fits(part, name=name, low=low, high=high):
                raise ValueError(
                    f'cron "{text.strip()}": {part!r} is not a {name} ({low} to {high}, *, a-b or either with /step)'
                )
    return " ".join(fields)


def _cron_part_fits(part: str, *, name: str, low: int, high: int) -> bool:
    span, slash, step = part.partition("/")
    if slash and not (step.isdecimal() and int(step) > 0):
        return False
    if span == "*":
        return True
    numbers = [_cron_number(word, name=name, low=low) for word in span.split("-", 1)]
    if any(number is None or not low <= number <= high for number in numbers):
        return False
    return len(numbers) == 1 or numbers[0] <= numbers[-1]  # type: ignore[operator]


def _cron_number(word: str, *, name: str, low: int) -> int | None:
    names = _CRON_NAMES.get(name, ())
    if word in names:
        return names.index(word) + low
    return int(word) if word.isdecimal() else None


ScheduleField = Annotated[Schedule, BeforeValidator(parse_schedule), PlainSerializer(str)]


def text_or_json_list(value: Any) -> Any:
    """Let an environment variable hold a list: a JSON array as it is, other text split at commas.

    Raises:
        ValueError: It starts as a JSON array and is none.
    """
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return parse_json_list(value)
    return [part.strip() for part in value.split(",") if part.strip()]


def parse_json_list(value: str) -> list[Any]:
    """List from a JSON array in text.

    Raises:
        ValueError: Not a JSON array.
    """
    try:
        return list(json.loads(value))  # text that starts with a bracket is an array or is not JSON
    except json.JSONDecodeError as error:
        raise ValueError(f"not a JSON array: {error}") from error
