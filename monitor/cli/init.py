"""``narrows init``: a configuration file to start from. Asks nothing."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Annotated

import typer

from monitor.cli.context import invocation
from monitor.cli.output import say
from monitor.data_files import read_data_file
from monitor.errors import ConfigError, UsageError
from monitor.settings import load_settings
from monitor.settings_sources import DEFAULT_FILE

_TEMPLATE = """\
# Configuration of Narrows. Every key that is left out has a default; README lists them all.
# Each key may also be set by a variable, such as NARROWS_STORE__URL; relative paths are relative to this file.
# Next: narrows check

[store]
url = "sqlite:///narrows.db"              # or, kept in the file that NARROWS_STORE__URL_FILE names, PostgreSQL:
                                          # postgresql+psycopg://USER:PASSWORD@HOST/DATABASE

[registry]
uri = "registry"                          # folder of model artifacts

[kafka]
bootstrap_servers = {bootstrap}
# start_from = "earliest"                 # or "latest": where to start in a partition that was never read

# [kafka.security]                        # for TLS and SASL
# protocol = "SASL_SSL"
# sasl_mechanism = "SCRAM-SHA-512"
# sasl_username = "narrows"               # password: NARROWS_KAFKA__SECURITY__SASL_PASSWORD_FILE
# ca_file = "ca.pem"

# [metrics]
# port = 9108                             # Prometheus metrics and health

[[streams]]                               # several are fine
name = {name}
topic = {topic}

[streams.schema]
dimension = {dimension}                   # numbers in a record{dimension_note}
features = "features"                     # an array of numbers, or a list of field paths
id = "id"                                 # delete the lines of what your records do not have
event_time = "ts"                         # epoch seconds, epoch milliseconds or ISO 8601
label = "label"                           # also for streams that are labelled partly, or late
# extra = "ignore"                        # records may have other fields too; by default they become dead letters

[streams.detector]
profile = "full"                          # or "fast": cheapest score, for the highest rates
false_alarm_rate = 0.01                   # share of normal records that is flagged

[streams.schedule]
recalibrate = "15m"                       # or "off"
retrain = "cron: 0 3 * * *"               # UTC
"""


def init(
    ctx: typer.Context,
    name: Annotated[str, typer.Option("--name", help="Name of the stream.")] = "main",
    topic: Annotated[str | None, typer.Option("--topic", help="Kafka topic. Default: the name.")] = None,
    dimension: Annotated[
        int | None, typer.Option("--dimension", min=1, help="Numbers in a record. Default: 64.")
    ] = None,
    bootstrap: Annotated[
        str,
        typer.Option(
            "--bootstrap", metavar="HOST:PORT,...", envvar="KAFKA_BOOTSTRAP_SERVERS", help="Kafka brokers to ask first."
        ),
    ] = "localhost:9092",
    from_file: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Read the dimension from a data file.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a commented configuration file that loads as it is.

    Example: narrows init --from history.npz --topic gas-sensor --name gas
    """
    file = invocation(ctx).config or Path(os.environ.get("NARROWS_CONFIG") or DEFAULT_FILE)
    found = None if from_file is None else read_data_file(from_file).dimension
    if dimension and found and dimension != found:
        raise UsageError(f"{from_file} has {found} features a row, not {dimension}. Leave out --dimension.")
    text = render(
        name=name,
        topic=topic or name,
        dimension=dimension or found,
        servers=[server.strip() for server in bootstrap.split(",") if server.strip()],
    )
    _write(file, text, force=force)
    say(f"Wrote {file}. Look through it, then: narrows check")


def render(*, name: str, topic: str, dimension: int | None, servers: list[str]) -> str:
    """Text of a configuration file.

    Args:
        name: Name of the stream.
        topic: Kafka topic.
        dimension: Number of features; None writes 64 and says that it is a guess.
        servers: Kafka brokers.
    """
    text = _TEMPLATE.format(
        bootstrap=json.dumps(servers),
        name=json.dumps(name),
        topic=json.dumps(topic),
        dimension=dimension or 64,
        dimension_note="" if dimension else ": a guess, set it",
    )
    return re.sub(r"^(\w+ = .*?) +# ", lambda line: f"{line[1]:<41} # ", text, flags=re.MULTILINE)


def _write(file: Path, text: str, *, force: bool) -> None:
    if file.exists() and not force:
        raise UsageError(
            f"{file} is there already; nothing was written. Replace it with --force, or name another: --config PATH"
        )
    draft = file.with_name(f".{file.name}.draft")
    try:
        draft.write_text(text, encoding="utf-8")
        load_settings(draft, environ={})  # an option that cannot work must not end up in a file
        draft.replace(file)
    except ConfigError as error:
        raise UsageError(str(error).replace(str(draft), "these options")) from None
    except OSError as error:
        raise UsageError(f"{file}: cannot be written: {error.strerror}.") from error
    finally:
        draft.unlink(missing_ok=True)
