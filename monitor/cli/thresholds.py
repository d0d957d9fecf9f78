"""``narrows thresholds``: where the boundary of each class is. Changing one needs no training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from monitor.cli.context import JsonOption, LimitOption, ReasonOption, StreamOption, load, narrow, opened_store, who
from monitor.cli.output import Column, ago, emit_json, jsonable, number, percent, print_table
from monitor.errors import NoChampion, UsageError

if TYPE_CHECKING:
    from monitor.store import Store
    from monitor.store.rows import ModelVersion, Threshold

app = typer.Typer(
    help="List and set the thresholds of the champion.\n\nExample: narrows thresholds list",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_COLUMNS = (
    Column("class", flexible=True),
    Column("threshold", right=True),
    Column("false alarms aimed at", right=True),
    Column("scores", right=True),
    Column("method"),
    Column("source"),
    Column("since"),
)


@app.command("list")
def list_thresholds(
    ctx: typer.Context,
    stream: StreamOption = None,
    history: Annotated[bool, typer.Option("--history", help="Also those that were replaced, newest first.")] = False,
    limit: LimitOption = 100,
    as_json: JsonOption = False,
) -> None:
    """List the champion's threshold of each class.

    Example: narrows thresholds list --history --json
    """
    settings = load(ctx)
    with opened_store(settings) as store:
        name = narrow(settings, stream).name
        if history:
            rows = store.models.threshold_history(name, limit=limit)
        else:
            rows = store.models.thresholds(champion_of(store, name).id)
    if as_json:
        emit_json([threshold_json(row) for row in rows])
        return
    print_thresholds(rows)


@app.command("set")
def set_threshold(
    ctx: typer.Context,
    class_label: Annotated[str, typer.Argument(metavar="CLASS", help="Label of the class.", show_default=False)],
    value: Annotated[float, typer.Argument(metavar="VALUE", help="Scores above it are flagged.", show_default=False)],
    reason: ReasonOption = "by hand",
    stream: StreamOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set the champion's threshold of one class by hand; the old one stays in the history.

    It stays until another champion, or until 'narrows jobs run recalibrate --include-manual'.

    Example: narrows thresholds set ethanol 2.75 --reason "too many false alarms at night"
    """
    if not (np.isfinite(value) and value > 0):
        raise UsageError(f"VALUE is {value}; a threshold is a finite number greater than zero.")
    settings = load(ctx)
    with opened_store(settings) as store:
        champion = champion_of(store, narrow(settings, stream).name)
        old = _threshold_of(store.models.thresholds(champion.id), class_label)
        spec = replace(old.spec(), value=value)
        now = datetime.now(UTC)
        rows = store.models.set_thresholds(champion.id, [spec], source="manual", cause=reason, who=who(), now=now)
    new = _threshold_of(rows, class_label)
    if as_json:
        emit_json(threshold_json(new))
        return
    typer.echo(
        f"Threshold of {class_label} is {number(new.value)} now (before: {number(old.value)}), for version "
        f"{champion.number} of {champion.stream}."
    )


def champion_of(store: Store, stream: str) -> ModelVersion:
    """The champion.

    Raises:
        NoChampion: There is none yet.
    """
    champion = store.models.champion(stream)
    if champion is None:
        raise NoChampion(f"Stream {stream} has no champion yet. Train one: narrows train FILE --stream {stream}")
    return champion


def _threshold_of(rows: Sequence[Threshold], class_label: str) -> Threshold:
    for row in rows:
        if row.class_label == class_label:
            return row
    known = ", ".join(row.class_label for row in rows)
    raise UsageError(f"The champion knows no class {class_label!r}. There is: {known}.")


def threshold_json(row: Threshold) -> dict[str, Any]:
    """A threshold by its column names, without the scores behind it."""
    shown: dict[str, Any] = jsonable(replace(row, calibration_scores=np.empty(0)))
    del shown["calibration_scores"]
    return shown


def print_thresholds(rows: Sequence[Threshold]) -> None:
    """Print thresholds as a table."""
    now = datetime.now(UTC)
    cells = [
        (
            row.class_label,
            number(row.value),
            percent(row.alpha),
            row.n_calibration,
            row.method,
            row.source,
            ago(row.valid_from, now=now),
        )
        for row in rows
    ]
    print_table(_COLUMNS, cells, empty="No thresholds.")
