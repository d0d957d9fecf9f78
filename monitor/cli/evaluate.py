"""``narrows evaluate``: would the detector catch a class it never saw? Needs no configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer

import models.api
from models.api import DetectorConfig
from models.errors import ModelError
from monitor.cli.context import JsonOption, load, narrow
from monitor.cli.output import Column, emit_json, percent, print_table, progress_bar, say
from monitor.data_files import read_data_file
from monitor.errors import UsageError

_T = TypeVar("_T")
_FIGURES = ("auroc", "aupr", "fpr95", "id_accuracy", "false_alarm_rate", "detection_rate")
_COLUMNS = (
    Column("held out", flexible=True),
    Column("seed", right=True),
    Column("AUROC", right=True),
    Column("AUPR", right=True),
    Column("FPR95", right=True),
    Column("accuracy", right=True),
    Column("false alarms", right=True),
    Column("detected", right=True),
)


def evaluate(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="NPZ, JSON lines, CSV or Parquet.", show_default=False)],
    held_out: Annotated[
        str | None,
        typer.Option("--held-out", metavar="A,B", help="Classes to leave out. Default: five, evenly spaced."),
    ] = None,
    seeds: Annotated[str, typer.Option("--seeds", metavar="0,1,2", help="Seeds; each is a run of its own.")] = "0,1,2",
    profile: Annotated[
        Literal["full", "fast"] | None, typer.Option("--profile", help="Detector profile. Default: full.")
    ] = None,
    stream: Annotated[
        str | None, typer.Option("--stream", metavar="NAME", help="Take schema and detector from the configuration.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Leave one class out of the training, then see whether it is caught. Repeat for several classes.

    AUROC 1 is perfect and 0.5 is chance; 'detected' is at the threshold that the detector chose for itself.

    Example: narrows evaluate history.npz --held-out 1,4,7 --seeds 0
    """
    chosen = None if stream is None else narrow(load(ctx), stream)
    config = DetectorConfig() if chosen is None else chosen.detector.to_config()
    if profile is not None:
        config = replace(config, profile=profile)
    models.api.use_threads(1)
    recorded = read_data_file(file, schema=None if chosen is None else chosen.record_schema)
    say(f"Evaluating on {len(recorded):,} rows, {recorded.dimension} features, {len(recorded.classes)} classes ...")
    try:
        with progress_bar() as progress:
            progress(0.0, "training the first detector")
            report = models.api.evaluate(
                recorded.x,
                recorded.labels,
                config=config,
                held_out=None if held_out is None else _words(held_out, str, option="--held-out"),
                seeds=_words(seeds, int, option="--seeds"),
                dataset=file.stem,
                progress=progress,
            )
    except ModelError as error:
        raise UsageError(f"{recorded.name}: {error}") from error
    if as_json:
        emit_json(report)
        return
    _print(report)


def _words(text: str, kind: Callable[[str], _T], *, option: str) -> list[_T]:
    try:
        words = [kind(word.strip()) for word in text.split(",") if word.strip()]
    except ValueError as error:
        raise UsageError(f"{option} {text}: {error}.") from error
    if not words:
        raise UsageError(f"{option} is empty.")
    return words


def _print(report: Mapping[str, Any]) -> None:
    runs: Sequence[Mapping[str, Any]] = report["per_class"]
    rows = [(run["held_out"], run["seed"], *_cells(run)) for run in runs]
    print_table(_COLUMNS, [*rows, ("mean", "", *_cells(report["mean"]))], empty="No class could be left out.")
    say(f"{report['protocol']}; {report['train_seconds']:.0f} s of training.")


def _cells(run: Mapping[str, Any]) -> tuple[str, ...]:
    return (*(f"{run[name]:.4f}" for name in _FIGURES[:3]), *(percent(run[name]) for name in _FIGURES[3:]))
