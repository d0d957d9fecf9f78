"""The settings table of README, generated from the models: ``python -m monitor.settings_reference``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from monitor.settings import Settings
from monitor.settings_sources import PREFIX, SECRETS, tables
from monitor.settings_types import format_duration

_HEAD = "| key | default | what it is |\n| --- | --- | --- |"


def reference() -> str:
    """All settings as a Markdown table, with how to give each as an environment variable."""
    return "\n".join((_HEAD, *_rows(Settings, path=())))


def variable_for(path: tuple[str, ...]) -> str:
    """Environment variable of a key, such as ``NARROWS_STREAMS__NAME__DETECTOR__PROFILE``."""
    named = (path[0], "NAME", *path[1:]) if path[0] == "streams" else path
    return PREFIX + "__".join(named).upper()


def _rows(model: type[BaseModel], *, path: tuple[str, ...]) -> Iterator[str]:
    nested = dict(tables(model))
    for name, field in model.model_fields.items():
        key = field.alias or name
        if key in nested:
            yield from _rows(nested[key], path=(*path, key))
        else:
            yield _row((*path, key), field)


def _row(path: tuple[str, ...], field: FieldInfo) -> str:
    default = "required" if field.is_required() else f"`{_toml(field.default)}`"
    secret = " Secret; also as a file that the variable with `_FILE` names." if path in SECRETS else ""
    return f"| `{'.'.join(path)}` | {default} | {field.description}{secret} |"


def _toml(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, timedelta):
        return f'"{format_duration(value)}"'
    if isinstance(value, int | float):
        return str(value + 0)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return f'"{value}"'


if __name__ == "__main__":
    print(reference())  # noqa: T201 - a program that prints
