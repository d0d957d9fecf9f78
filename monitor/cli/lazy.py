"""Commands that are imported when they are used, and what happens to the errors that end them."""

from __future__ import annotations

import os
import sys
import traceback
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from monitor.printable import printable


class Lazy(NamedTuple):
    """A command that is not imported yet.

    Attributes:
        section: Heading in ``--help``.
        summary: Line in ``--help``; the module is not asked for it.
        module: Has ``app`` (a Typer application, for a group) or a function named as the command.
    """

    section: str
    summary: str
    module: str


COMMANDS: Final = {
    "init": Lazy("Set up", "Write a commented configuration file.", "monitor.cli.init"),
    "check": Lazy("Set up", "Check configuration, broker, store and model; say what to do.", "monitor.cli.check"),
    "db": Lazy("Set up", "Upgrade, inspect or prune the database.", "monitor.cli.db"),
    "dev": Lazy("Set up", "Start a local Kafka and PostgreSQL to try things.", "monitor.cli.dev"),
    "demo": Lazy("Set up", "Show the whole pipeline at work, by itself.", "monitor.cli.demo"),
    "train": Lazy("Models", "Train a detector on a file and publish it.", "monitor.cli.train"),
    "evaluate": Lazy("Models", "What would it catch? Leave one class out of a file.", "monitor.cli.evaluate"),
    "backtest": Lazy("Models", "Run the adaptive pipeline over recorded history.", "monitor.cli.backtest"),
    "replay": Lazy("Models", "Score history again with another version.", "monitor.cli.replay"),
    "models": Lazy("Models", "List, show, promote and roll back versions.", "monitor.cli.models"),
    "thresholds": Lazy("Models", "List and set the thresholds of the champion.", "monitor.cli.thresholds"),
    "labels": Lazy("Models", "Import labels that arrived late.", "monitor.cli.labels"),
    "run": Lazy("Run", "Score the stream until told to stop.", "monitor.cli.run"),
    "schedule": Lazy("Run", "Recalibrate, retrain and prune by the clock.", "monitor.cli.schedule"),
    "jobs": Lazy("Run", "List scheduled jobs and run one now.", "monitor.cli.jobs"),
    "serve": Lazy("Run", "Serve the review page, health and metrics.", "monitor.cli.serve"),
    "alerts": Lazy("Review", "List anomalies and incidents, and see why.", "monitor.cli.alerts"),
    "dead-letters": Lazy("Review", "List and replay records that could not be scored.", "monitor.cli.dead_letters"),
}
#: Options of the whole program that may also follow the command, with the number of words they take.
_ANYWHERE: Final = {"--config": 2, "--debug": 1}


def load_command(name: str) -> Any:
    """Import a command's module and build the command."""
    module = import_module(COMMANDS[name].module)
    found = getattr(module, "app", None)
    if found is None:
        found = typer.Typer(add_completion=False, rich_markup_mode=None)
        found.command(name)(getattr(module, name.replace("-", "_")))
    found.pretty_exceptions_enable = False
    command = typer.main.get_command(found)
    command.name = name
    return command


def hoist(args: list[str]) -> list[str]:
    """The words of a command line with the options of the whole program moved to the front."""
    front, rest, i = [], [], 0
    while i < len(args) and args[i] != "--":
        words = 1 if "=" in args[i] else _ANYWHERE.get(args[i], 0)
        if args[i].partition("=")[0] in _ANYWHERE:
            front += args[i : i + words]
        else:
            words = 1
            rest.append(args[i])
        i += words
    return front + rest + args[i:]


class LazyGroup(TyperGroup):
    """The commands of ``COMMANDS`` whose module is there, as names until one of them is used."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, entry in COMMANDS.items():
            if find_spec(entry.module) is not None:
                self.commands[name] = TyperCommand(name, help=entry.summary, short_help=entry.summary)

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of the table."""
        del ctx
        return list(self.commands)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that was asked for, and only now import it."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, load_command(str(name)), rest

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Accept the options of the whole program after the command too."""
        return super().parse_args(ctx, hoist(args))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands by section."""
        del ctx
        width = max(map(len, self.commands), default=0)
        sections = dict.fromkeys(entry.section for entry in COMMANDS.values())
        for section in sections:
            rows = [
                (f"{name:<{width}}", COMMANDS[name].summary)
                for name in self.commands
                if COMMANDS[name].section == section
            ]
            if rows:
                with formatter.section(section):
                    formatter.write_dl(rows)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; errors that are Narrows' own end it with one message and their exit status."""
        from monitor.errors import NarrowsError  # noqa: PLC0415 - brings numpy along, and --help does without

        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except NarrowsError as error:
            if getattr(ctx.obj, "debug", False):
                traceback.print_exc()
            print_error(error)
            raise typer.Exit(error.exit_code) from None
        except BrokenPipeError:  # the reader (head, less) has seen enough; 141 is what its signal would give
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(141) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        return result


def print_error(error: BaseException) -> None:
    """Say on stderr what went wrong, with the causes that add something."""
    said = printable_lines(str(error))
    lines = [f"Error: {said}"]
    cause = error.__cause__
    while cause is not None:
        text = printable_lines(" ".join(str(cause).split())) or type(cause).__name__
        if text.rstrip(".") not in said:
            lines.append(f"  because: {text}")
            said += text
        cause = cause.__cause__
    typer.echo("\n".join(lines), err=True)


def printable_lines(text: str) -> str:
    """Text of several lines, safe to show."""
    return "\n".join(map(printable, text.splitlines()))
