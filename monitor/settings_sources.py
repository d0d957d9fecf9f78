"""Where settings come from: the TOML file, environment variables, and words for what is wrong with them."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from monitor.errors import ConfigError

PREFIX: Final = "NARROWS_"
DEFAULT_FILE: Final = "narrows.toml"
#: Never printed; each may also be given as a file that its variable with ``_FILE`` names.
SECRETS: Final = frozenset(
    {("store", "url"), ("kafka", "security", "sasl_password"), ("kafka", "security", "key_password")}
)

Location = tuple[str | int, ...]


def find_file(path: Path | None, *, environ: Mapping[str, str]) -> Path | None:
    """The file to read, or None where none is asked for and there is no ``narrows.toml``.

    Raises:
        ConfigError: The file that was asked for is not there.
    """
    named = path or (Path(environ["NARROWS_CONFIG"]) if environ.get("NARROWS_CONFIG") else None)
    if named is None:
        return Path(DEFAULT_FILE) if Path(DEFAULT_FILE).is_file() else None
    if not named.is_file():
        asked = "--config" if path else "NARROWS_CONFIG"
        raise ConfigError(f"{named}: there is no such file ({asked}). Write one with: narrows init --config {named}")
    return named


def read_toml(file: Path) -> dict[str, Any]:
    """Values of the file.

    Raises:
        ConfigError: It cannot be read or is not TOML; the message has line and column.
    """
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not valid TOML: {error}.") from error


def overlay_environment(values: dict[str, Any], *, environ: Mapping[str, str]) -> dict[Location, str]:
    """Put environment variables over the values of the file, in place.

    Only names with a double underscore are settings: Kubernetes sets ``NARROWS_PORT`` and the like for a service of
    that name. An empty variable counts as not set, as Compose files leave it.

    Returns:
        Name of the variable behind each value that was set.

    Raises:
        ConfigError: A variable names no stream, or a file that cannot be read.
    """
    origins: dict[Location, str] = {}
    if servers := environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        _assign(values, ("kafka", "bootstrap_servers"), servers)
        origins["kafka", "bootstrap_servers"] = "KAFKA_BOOTSTRAP_SERVERS"
    for variable, text in sorted(environ.items()):
        if not text or not variable.upper().startswith(PREFIX) or "__" not in variable:
            continue
        keys: Location = tuple(variable[len(PREFIX) :].lower().split("__"))
        if keys[0] == "streams":
            keys = ("streams", _stream_index(keys, values=values, variable=variable), *keys[2:])
        secret: Location = (*keys[:-1], str(keys[-1]).removesuffix("_file"))
        if secret != keys and secret in SECRETS:
            keys = secret
            _assign(values, keys, _secret(text, variable=variable))
        else:
            _assign(values, keys, text)
        origins[keys] = variable
    return origins


def _stream_index(keys: Location, *, values: dict[str, Any], variable: str) -> int:
    streams = values.setdefault("streams", [])
    names = [environment_name(stream.get("name", "")) for stream in streams]
    wanted = str(keys[1])
    if wanted.upper() in names:
        return names.index(wanted.upper())
    if wanted.isdecimal() and int(wanted) <= len(streams) and len(keys) > 2:
        if int(wanted) == len(streams):
            streams.append({})
        return int(wanted)
    known = ", ".join(names) or "none"
    raise ConfigError(
        f"{variable} names no stream: write {PREFIX}STREAMS__NAME__FIELD with a configured name ({known}), or an index "
        f"from 0."
    )


def environment_name(stream: str) -> str:
    """Name of a stream as it is written in an environment variable."""
    return re.sub(r"[.-]", "_", stream).upper()


def _secret(path: str, *, variable: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{variable}: {path} cannot be read: {error}.") from error


def _assign(values: Any, keys: Location, text: str) -> None:
    for key in keys[:-1]:
        values = values[key] if isinstance(key, int) else values.setdefault(key, {})
        if not isinstance(values, dict | list):
            return  # the file has a plain value where a table belongs; validation says so
    if isinstance(values, dict):
        values[keys[-1]] = text


def explain(
    error: ValidationError,
    model: type[BaseModel],
    *,
    values: Mapping[str, Any],
    file: Path | None,
    origins: Mapping[Location, str],
) -> str:
    """All problems in words: where, what, and how to mend it, one a line."""
    problems = []
    for details in error.errors(include_url=False):
        location: Location = details["loc"]
        origin = f" (from {origins[location]})" if location in origins else ""
        problems.append(f"{dotted(location, values=values)}{origin}: {_problem(dict(details), model)}")
    where = "the environment" if file is None else str(file)
    return "\n  ".join((f"The configuration in {where} is not usable:", *dict.fromkeys(problems)))


def dotted(location: Location, *, values: Mapping[str, Any]) -> str:
    """Path of a key as people write it, with the name of a stream in the place of its index."""
    parts = [str(part) for part in location]
    if len(location) > 1 and location[0] == "streams" and isinstance(location[1], int):
        try:
            parts[1] = str(values["streams"][location[1]]["name"])
        except (KeyError, TypeError, IndexError):
            parts[1] = str(location[1])
    return ".".join(parts) or "file"


def _problem(details: dict[str, Any], model: type[BaseModel]) -> str:
    location, kind = details["loc"], details["type"]
    if kind == "extra_forbidden":
        return f"unknown key. {_alternatives(str(location[-1]), _keys_beside(location, model))}"
    if kind == "missing":
        return f"missing. {_how_to_add(location)}"
    if kind == "value_error":
        return f"{details['ctx']['error']}."
    message = f"{details['msg']}."
    given = details.get("input")
    if location in SECRETS or not isinstance(given, str | int | float):
        return message
    return f"{message} It is {given!r}."


def _how_to_add(location: Location) -> str:
    if location[-1] == "schema":
        return "Add [streams.schema] with dimension = NUMBER OF FEATURES."
    return f"Add {location[-1]} = ... to {'[[streams]]' if len(location) == 3 else f'[streams.{location[-2]}]'}."


def _alternatives(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"Did you mean {near[0]}?" if near else f"There is: {', '.join(known)}."


def _keys_beside(location: Location, model: type[BaseModel]) -> list[str]:
    """Keys of the table that the last part of a location is in."""
    for part in location[:-1]:
        if isinstance(part, str):
            model = dict(tables(model))[part]
    return [field.alias or name for name, field in model.model_fields.items()]


def tables(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Key and model of each table directly within a table."""
    for name, field in model.model_fields.items():
        for candidate in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                yield field.alias or name, candidate
