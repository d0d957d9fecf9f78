"""What every command starts from: its configuration, its store, its common options."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # the help of a command must not wait for pydantic or SQLAlchemy
    from monitor.settings import Settings
    from monitor.settings_streams import StreamSettings
    from monitor.store import Store

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
StreamOption = Annotated[
    str | None,
    typer.Option("--stream", metavar="NAME", help="Stream; may be left out where only one is configured."),
]
StreamFilter = Annotated[
    str | None, typer.Option("--stream", metavar="NAME", help="Only this stream. Default: all streams.")
]
LimitOption = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Most rows shown.")]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; goes into the audit log.")]


@dataclass(frozen=True, slots=True)
class Invocation:
    """Options of the whole program.

    Attributes:
        config: File that ``--config`` named.
        debug: Whether to show stack traces and debug messages.
    """

    config: Path | None = None
    debug: bool = False


def invocation(ctx: typer.Context) -> Invocation:
    """Options of the whole program; defaults where a command runs by itself, as in a test."""
    found = ctx.find_object(Invocation)
    return found or Invocation()


def load(ctx: typer.Context) -> Settings:
    """Read the configuration and set up logging by it.

    Raises:
        ConfigError: It is not usable.
    """
    from monitor.logs import configure_logging  # noqa: PLC0415 - see TYPE_CHECKING above
    from monitor.settings import load_settings  # noqa: PLC0415

    options = invocation(ctx)
    settings = load_settings(options.config)
    configure_logging("DEBUG" if options.debug else settings.log.level, style=settings.log.format)
    return settings


def narrow(settings: Settings, name: str | None) -> StreamSettings:
    """The stream that ``--stream`` names, or the only one.

    Raises:
        ConfigError: There is none, or not just one; the message lists the names.
    """
    return settings.stream(name)


@contextmanager
def opened_store(settings: Settings) -> Iterator[Store]:
    """The store, closed at the end.

    Raises:
        ConfigError: Nothing says where the database is.
        StoreUnavailable: It does not answer.
        SchemaBehind: It needs ``narrows db upgrade``.
    """
    from monitor.store import open_store  # noqa: PLC0415

    demand_store(settings)
    store = open_store(settings.store.url)
    try:
        yield store
    finally:
        store.close()


def demand_store(settings: Settings) -> None:
    """Refuse to create a database by default where nothing was configured at all.

    Raises:
        ConfigError: There is no file, and no variable names the database.
    """
    from monitor.errors import ConfigError  # noqa: PLC0415

    if settings.file is None and "url" not in settings.store.model_fields_set:
        raise ConfigError(
            "There is no configuration here: no narrows.toml in this folder, and NARROWS_STORE__URL is not set. "
            "Write a file with: narrows init, or name one with --config PATH."
        )


def who() -> str:
    """The person at the keyboard, for the audit log."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a user database
        return "unknown"
