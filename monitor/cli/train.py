"""``narrows train``: from a file of history to a version that can serve."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import models.api
from models.errors import ModelError
from monitor.cli.context import JsonOption, StreamOption, load, narrow, opened_store, who
from monitor.cli.output import emit_json, percent, progress_bar, say
from monitor.data_files import read_data_file
from monitor.errors import UsageError
from monitor.registry import Registry
from monitor.settings import fingerprint

if TYPE_CHECKING:
    from models.api import Trained
    from monitor.recorded import Recorded
    from monitor.settings import Settings
    from monitor.settings_streams import StreamSettings
    from monitor.store import Store
    from monitor.store.rows import ModelVersion


def train(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="NPZ, JSON lines, CSV or Parquet.", show_default=False)],
    stream: StreamOption = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")] = 0,
    promote: Annotated[bool, typer.Option("--promote", help="Make it champion at once, without the gate.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a detector on a file of history and publish it.

    The first version of a stream becomes champion at once; a later one stays candidate until the gate or
    'narrows models promote' says otherwise.

    Example: narrows train history.npz --stream gas
    """
    settings = load(ctx)
    chosen = narrow(settings, stream)
    models.api.use_threads(settings.worker.threads)
    recorded = read_data_file(file, schema=chosen.record_schema)
    _demand_dimension(recorded, chosen, settings)
    with opened_store(settings) as store:  # before the training: a minute of work must not end at a closed door
        started = time.monotonic()
        trained = _fit(recorded, chosen, seed=seed)
        version = _publish(trained, recorded, chosen, settings=settings, store=store, promote=promote)
    seconds = time.monotonic() - started
    card = trained.scorer.card
    if as_json:
        emit_json(
            {
                "model_version": version.number,
                "alias": version.alias,
                "seconds": round(seconds, 3),
                "metrics": dict(card.metrics),
                "stream": chosen.name,
                "classes": list(card.classes),
                "n_train": card.n_train,
                "n_calibration": card.n_calibration,
            }
        )
        return
    _report(version, trained, seconds=seconds)


def _demand_dimension(recorded: Recorded, stream: StreamSettings, settings: Settings) -> None:
    wanted = stream.record_schema.dimension
    if recorded.dimension != wanted:
        raise UsageError(
            f"{recorded.name} has {recorded.dimension} features a row, but {settings.file or 'the configuration'} says "
            f"streams.{stream.name}.schema.dimension = {wanted}. Set it to {recorded.dimension}, or take another file."
        )


def _fit(recorded: Recorded, stream: StreamSettings, *, seed: int) -> Trained:
    n_classes = len(recorded.classes)
    say(f"Training on {len(recorded):,} rows, {recorded.dimension} features, {n_classes or 'no'} classes ...")
    labels = recorded.labels if n_classes else None
    try:
        with progress_bar() as progress:
            return models.api.fit(recorded.x, labels, config=stream.detector.to_config(), seed=seed, progress=progress)
    except ModelError as error:
        raise UsageError(f"{recorded.name}: {error}") from error


def _publish(
    trained: Trained,
    recorded: Recorded,
    stream: StreamSettings,
    *,
    settings: Settings,
    store: Store,
    promote: bool,
) -> ModelVersion:
    card, now = trained.scorer.card, datetime.now(UTC)
    artifact_uri, sha256 = Registry(settings.registry.uri).save(stream.name, trained)
    store.streams.sync(stream.name, stream.topic, fingerprint(stream), now=now)
    times = _event_times(recorded)
    labels = [str(label) or None for label in recorded.labels]
    store.samples.seed(stream.name, recorded.x, labels, source=recorded.name, now=now, event_times=times)
    version = store.models.publish(
        stream=stream.name,
        artifact_uri=artifact_uri,
        sha256=sha256,
        classes=card.classes,
        n_train=card.n_train,
        n_calibration=card.n_calibration,
        metrics=dict(card.metrics),
        thresholds=trained.thresholds,
        trained_from=min(times) if times else None,
        trained_to=min(max(times), now) if times else None,  # one wrong clock must not make all that comes old
        now=now,
        who=who(),
    )
    if promote and version.alias != "champion":
        reason = f"narrows train {recorded.name} --promote"
        version = store.models.promote(stream.name, version.number, who=who(), reason=reason, now=datetime.now(UTC))
    return version


def _event_times(recorded: Recorded) -> list[datetime] | None:
    """Times of the rows, where they are epoch seconds of this age and not row numbers."""
    if recorded.t is None or recorded.t.min() < 5e8 or recorded.t.max() > 1e10:
        return None
    return [datetime.fromtimestamp(seconds, UTC) for seconds in recorded.t.tolist()]


def _report(version: ModelVersion, trained: Trained, *, seconds: float) -> None:
    card = trained.scorer.card
    say(f"Trained on {card.n_train:,} rows and calibrated on {card.n_calibration:,} in {seconds:.1f} s.")
    for note in card.report.get("notes", ()):
        say(f"Note: {note}")
    if version.alias != "champion":
        say(f"The champion goes on. To change over: narrows models promote {version.number} --stream {version.stream}")
    accuracy = card.metrics.get("accuracy", card.metrics.get("id_accuracy"))
    typer.echo(
        f"Version {version.number} of {version.stream} is {version.alias or version.status}: "
        f"{len(card.classes)} classes, accuracy {percent(accuracy)}, "
        f"false alarms {percent(card.metrics.get('false_alarm_rate'))} on rows it never saw."
    )
