"""``narrows dev``: a real broker and a real database on this machine, for trying things; nothing for production."""

import json
import os
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from monitor.cli.context import JsonOption

if TYPE_CHECKING:
    from monitor.local.dev import DevServers, Service

app = typer.Typer(
    help="Start a real Kafka and PostgreSQL on this machine to try things.\n\nExample: narrows dev up --postgres",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Folder = Annotated[
    Path,
    typer.Option("--folder", envvar="NARROWS_DEV_FOLDER", help="Where data, logs and state are kept."),
]
DEFAULT_FOLDER = Path(".narrows")


@app.command()
def up(
    folder: Folder = DEFAULT_FOLDER,
    postgres: Annotated[bool, typer.Option("--postgres", help="Also start PostgreSQL.")] = False,
) -> None:
    """Start Apache Kafka, and PostgreSQL if asked; they run until `narrows dev down`.

    Prints lines for a shell, so that the commands of this project use what was started. What the environment names in
    KAFKA_BOOTSTRAP_SERVERS or NARROWS_STORE__URL is used instead, and nothing is started for it.

    Example: eval "$(narrows dev up --postgres)"
    """
    servers = _servers(folder)
    _print_service("Kafka", servers.kafka_up())
    if postgres:
        _print_service("PostgreSQL", servers.postgres_up())


@app.command()
def down(
    folder: Folder = DEFAULT_FOLDER,
    delete: Annotated[bool, typer.Option("--delete", help="Also remove all their data.")] = False,
) -> None:
    """Stop what `narrows dev up` started; the data stay unless --delete is given.

    Example: narrows dev down --delete
    """
    servers = _servers(folder)
    stopped = servers.down()
    if delete:
        servers.delete()
    typer.echo(f"Stopped {' and '.join(stopped)}." if stopped else "Nothing was running.")


@app.command()
def status(
    folder: Folder = DEFAULT_FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Say what runs and where.

    Example: narrows dev status --json
    """
    servers = _servers(folder)
    services = {"kafka": servers.kafka_status(), "postgres": servers.postgres_status()}
    if as_json:
        typer.echo(json.dumps({name: asdict(service) for name, service in services.items()}))
        return
    for name, service in services.items():
        typer.echo(f"{name:<10}{_words(service)}")


def _servers(folder: Path) -> "DevServers":
    from monitor.local.dev import DevServers  # noqa: PLC0415 - needs the extra, which `narrows --help` must not

    return DevServers(folder, environment=os.environ, progress=_say)


def _say(message: str) -> None:
    typer.echo(message, err=True)


def _print_service(name: str, service: "Service") -> None:
    typer.echo(f"# {name}: {service.address}")
    if service.source == "environment":
        _say(f"{name}: {service.variable} names one already; nothing was started.")
    else:
        typer.echo(f"export {service.variable}={shlex.quote(service.address or '')}")


def _words(service: "Service") -> str:
    if service.source == "none":
        return "not running; start it with: narrows dev up"
    if service.source == "environment":
        return f"{service.address}  (named by the environment)"
    health = "answers" if service.answers else "does not answer"
    return f"{service.address}  (process {service.pid}, {health})"
