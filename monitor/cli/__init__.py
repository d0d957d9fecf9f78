"""The command ``narrows``. Only the table of commands is here; a command's module is imported when it is used.

Results go to stdout, talk to stderr. Exit status: 0 done, 1 failed, 2 wrong use or configuration.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from monitor.cli.context import Invocation
from monitor.cli.lazy import LazyGroup
from monitor.version import __version__

app = typer.Typer(
    name="narrows",
    cls=LazyGroup,
    add_completion=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help needs no import of rich and keeps the lines of examples
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"narrows {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    ctx: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="PATH",
            help="Configuration file. Default: $NARROWS_CONFIG, else narrows.toml. May also follow the command.",
        ),
    ] = None,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="NARROWS_DEBUG", help="Show stack traces and debug messages.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Watch a Kafka stream for anomalies: an Information Bottleneck encoder in, alerts in SQL out, exactly once.

    Example: narrows init && narrows check && narrows train history.npz && narrows run
    """
    del version
    ctx.obj = Invocation(config=config, debug=debug)


def main() -> None:
    """Run the command line of this process; what ``narrows`` starts."""
    app(prog_name="narrows")


__all__ = ["app", "main"]
