"""``narrows models``: which versions there are, and which one serves."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monitor.cli.context import JsonOption, ReasonOption, StreamFilter, StreamOption, load, narrow, opened_store, who
from monitor.cli.output import (
    Column,
    ago,
    emit_json,
    jsonable,
    number,
    percent,
    print_fields,
    print_table,
    timestamp,
)
from monitor.cli.thresholds import print_thresholds, threshold_json

if TYPE_CHECKING:
    from monitor.store.rows import ModelVersion, Threshold

app = typer.Typer(
    help="List, show, promote and roll back versions of the detector.\n\nExample: narrows models list",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Number = Annotated[int, typer.Argument(metavar="NUMBER", help="Number of the version.", min=1, show_default=False)]

_COLUMNS = (
    Column("stream"),
    Column("number", right=True),
    Column("alias"),
    Column("status"),
    Column("classes", right=True),
    Column("rows", right=True),
    Column("accuracy", right=True),
    Column("false alarms", right=True),
    Column("created"),
)


@app.command("list")
def list_versions(ctx: typer.Context, stream: StreamFilter = None, as_json: JsonOption = False) -> None:
    """List all versions.

    Example: narrows models list --stream gas --json
    """
    with opened_store(load(ctx)) as store:
        versions = store.models.versions(stream)
    if as_json:
        emit_json([version_json(version) for version in versions])
        return
    print_table(
        _COLUMNS, [_row(version) for version in versions], empty="No version yet. Train one: narrows train FILE"
    )


@app.command()
def show(ctx: typer.Context, version: Number, stream: StreamOption = None, as_json: JsonOption = False) -> None:
    """Show one version with its thresholds.

    Example: narrows models show 3
    """
    settings = load(ctx)
    with opened_store(settings) as store:
        found = store.models.version(narrow(settings, stream).name, version)
        thresholds = store.models.thresholds(found.id)
    if as_json:
        emit_json(version_json(found) | {"thresholds": [threshold_json(row) for row in thresholds]})
        return
    _print_version(found, thresholds)


@app.command()
def promote(
    ctx: typer.Context,
    version: Number,
    stream: StreamOption = None,
    reason: ReasonOption = "by hand",
    as_json: JsonOption = False,
) -> None:
    """Make a version the champion. Workers change over within seconds, without a restart.

    Example: narrows models promote 3 --reason "new sensor"
    """
    settings = load(ctx)
    with opened_store(settings) as store:
        name = narrow(settings, stream).name
        before = store.models.champion(name)
        after = store.models.promote(name, version, who=who(), reason=reason, now=datetime.now(UTC))
    _changed(before, after, as_json=as_json)


@app.command()
def rollback(
    ctx: typer.Context, stream: StreamOption = None, reason: ReasonOption = "by hand", as_json: JsonOption = False
) -> None:
    """Make the version that was champion before the champion again.

    Example: narrows models rollback --reason "too many false alarms"
    """
    settings = load(ctx)
    with opened_store(settings) as store:
        name = narrow(settings, stream).name
        before = store.models.champion(name)
        after = store.models.rollback(name, who=who(), reason=reason, now=datetime.now(UTC))
    _changed(before, after, as_json=as_json)


def _changed(before: ModelVersion | None, after: ModelVersion, *, as_json: bool) -> None:
    if as_json:
        emit_json(version_json(after))
        return
    old = f"version {before.number}" if before else "none"
    typer.echo(f"Version {after.number} of {after.stream} is champion now (before: {old}).")


def version_json(version: ModelVersion) -> dict[str, Any]:
    """A version by its column names."""
    shown: dict[str, Any] = jsonable(version)
    return shown


def _accuracy(version: ModelVersion) -> float | None:
    found: float | None = version.metrics.get("accuracy", version.metrics.get("id_accuracy"))
    return found


def _row(version: ModelVersion) -> Sequence[object]:
    return (
        version.stream,
        version.number,
        version.alias,
        version.status,
        len(version.classes),
        version.n_train,
        percent(_accuracy(version)),
        percent(version.metrics.get("false_alarm_rate")),
        ago(version.created_at, now=datetime.now(UTC)),
    )


def _print_version(version: ModelVersion, thresholds: Sequence[Threshold]) -> None:
    print_fields(
        [
            ("stream", version.stream),
            ("number", version.number),
            ("alias", version.alias),
            ("status", version.status),
            ("created", timestamp(version.created_at)),
            ("note", version.note),
            ("rows", f"{version.n_train:,} to train, {version.n_calibration:,} to calibrate"),
            ("window", f"{timestamp(version.trained_from) or '-'} to {timestamp(version.trained_to) or '-'}"),
            ("artifact", version.artifact_uri),
            ("sha256", version.sha256),
            *((name, number(value) if isinstance(value, float) else value) for name, value in version.metrics.items()),
        ]
    )
    typer.echo("")
    print_thresholds(thresholds)
