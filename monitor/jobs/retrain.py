"""Job ``retrain``: a new encoder from labelled samples, trained in a process of its own, judged by the gate.

Side effects in order; after a crash between any two the next run starts again and goes on:

1. work folder ``<registry>/.retrain/<stream>/<lease token>`` (older ones are removed: their runs are dead)
2. training process; writes only into that folder
3. artifact into the registry (not yet named by any row: an orphan, which ``prune`` removes)
4. version row, as candidate
5. promoted, or rejected with the gate's reasons
6. work folder removed

Steps 4 and 5 carry the lease: a run that lost it changes nothing.
"""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import models.api
from models.api import Trained
from monitor.jobs import training_rows
from monitor.jobs.base import JobOutcome, JobScope
from monitor.jobs.child import run_child
from monitor.jobs.fit_request import (
    CandidateUnfit,
    ChampionFiles,
    FitResult,
    Rows,
    progress_of,
    read_result,
    write_request,
)
from monitor.jobs.training_rows import Labelled, Split

if TYPE_CHECKING:
    from models.gate import GateDecision, GateFigures
    from monitor.store.rows import ModelVersion, SampleSet

WHO = "job:retrain"
#: Rows that training can use at most; more would only be sampled down there.
_MAX_ROWS = 20_000
_MIN_ROWS_PER_CLASS = 200


def retrain(scope: JobScope) -> JobOutcome:
    """Train a candidate and let the gate decide.

    Returns:
        ``succeeded``: it is champion now. ``rejected``: it is kept as rejected, with the reasons (a collapsed
        encoder is not kept). ``skipped``: too
        few rows.

    Raises:
        TrainingFailed: The training process failed.
        JobCancelled: Somebody asked to stop; nothing was published.
        LeaseLost: Another process does this now; nothing was written.
    """
    champion = scope.ports.store.models.champion(scope.stream.name)
    samples = _samples(scope, champion)
    found = _split(scope, champion, samples)
    if isinstance(found, str):
        return JobOutcome("skipped", found, {"n_labelled": len(samples)})
    with _work_folder(scope) as folder:
        try:
            result = _train(scope, champion, samples, found, folder=folder)
        except CandidateUnfit as error:
            return JobOutcome("rejected", f"the candidate was rejected: {error}", {"reasons": [str(error)]})
        decision = _decide(scope, result)
        scope.check()
        version = _publish(scope, champion, samples, found, result)
    return _settle(scope, champion, version, decision, result)


def _samples(scope: JobScope, champion: ModelVersion | None) -> SampleSet:
    classes = None if champion is None else champion.classes
    per_class = max(_MIN_ROWS_PER_CLASS, _MAX_ROWS // max(1, len(classes or ())))
    return scope.ports.store.samples.training_set(scope.stream.name, classes=classes, limit_per_class=per_class)


def _split(scope: JobScope, champion: ModelVersion | None, samples: SampleSet) -> Split | str:
    labels = tuple(label or "" for label in samples.labels)  # the query brings labelled rows only
    return training_rows.split(
        Labelled(labels, samples.event_times, ~np.isnan(samples.scores)),
        classes=None if champion is None else champion.classes,
        trained_to=None if champion is None else champion.trained_to,
        min_gate_rows=scope.stream.gate.min_rows,
    )


def _train(
    scope: JobScope, champion: ModelVersion | None, samples: SampleSet, found: Split, *, folder: Path
) -> FitResult:
    labels = np.array(samples.labels, dtype=np.str_)
    rows = Rows(samples.x[found.train], labels[found.train], samples.x[found.gate], labels[found.gate])
    request = write_request(
        folder,
        rows,
        config=scope.stream.detector.to_config(),
        seed=0 if champion is None else champion.number,
        champion=None if champion is None else _champion_files(scope, champion),
    )
    scope.progress(0.0, f"training on {len(found.train)} samples, judged by {len(found.gate)}")
    ended = run_child(
        [sys.executable, "-m", "models.fit_process", str(request)],
        on_line=_forward(scope),
        cancellation=scope.cancellation,
        clock=scope.ports.clock,
        time_limit_s=scope.stream.schedule.retrain_time_limit.total_seconds(),
    )
    return read_result(folder, status=ended.status, stderr_tail=ended.stderr_tail)


def _forward(scope: JobScope) -> Callable[[str], None]:
    def on_line(line: str) -> None:
        if (step := progress_of(line)) is not None:
            scope.progress(*step)

    return on_line


def _champion_files(scope: JobScope, champion: ModelVersion) -> ChampionFiles:
    rows = scope.ports.store.models.thresholds(champion.id)
    folder = scope.ports.registry.root / champion.artifact_uri
    return ChampionFiles(folder, champion.sha256, [row.spec() for row in rows])


def _decide(scope: JobScope, result: FitResult) -> GateDecision:
    from models.gate import GateTolerance, decide  # noqa: PLC0415 - brings torch along

    gate = scope.stream.gate
    tolerance = GateTolerance(
        accuracy=gate.accuracy_tolerance,
        false_alarm_rate=gate.false_alarm_tolerance,
        pseudo_unseen_auroc=gate.auroc_tolerance,
        min_rows=gate.min_rows,
    )
    champion = None if result.champion is None else _figures(result.champion)
    return decide(champion, _figures(result.candidate), tolerance=tolerance)


def _figures(figures: Mapping[str, float]) -> GateFigures:
    from models.gate import GateFigures  # noqa: PLC0415 - brings torch along

    counts = {"n_rows": int(figures["n_rows"]), "n_not_finite": int(figures["n_not_finite"])}
    return GateFigures(**{**figures, **counts})  # type: ignore[arg-type]  # the counts are ints


def _publish(
    scope: JobScope, champion: ModelVersion | None, samples: SampleSet, found: Split, result: FitResult
) -> ModelVersion:
    scorer = models.api.load(result.folder, sha256=result.sha256)
    artifact_uri, sha256 = scope.ports.registry.save(scope.stream.name, Trained(scorer, result.thresholds))
    first, last = _window(samples, found, now=scope.now)
    return scope.ports.store.models.publish(
        stream=scope.stream.name,
        artifact_uri=artifact_uri,
        sha256=sha256,
        classes=scorer.card.classes,
        n_train=scorer.card.n_train,
        n_calibration=scorer.card.n_calibration,
        metrics=dict(scorer.card.metrics),
        thresholds=result.thresholds,
        now=scope.now,
        who=WHO,
        parent_id=None if champion is None else champion.id,
        trained_from=first,
        trained_to=last,
        lease=scope.lease,
        first_is_champion=False,
    )


def _window(samples: SampleSet, found: Split, *, now: datetime) -> tuple[datetime | None, datetime | None]:
    """Event times between which the candidate learned from the stream; rows of a file have no time to go by.

    Times after ``now`` come from a wrong clock: taken as they are, they would make all that comes later old.
    """
    times = [min(now, samples.event_times[row]) for row in found.train if not np.isnan(samples.scores[row])]
    return min(times, default=None), max(times, default=None)


def _settle(
    scope: JobScope, champion: ModelVersion | None, version: ModelVersion, decision: GateDecision, result: FitResult
) -> JobOutcome:
    store, stream = scope.ports.store.models, scope.stream.name
    detail = {
        "model_version": version.number,
        "parent": None if champion is None else champion.number,
        "reasons": list(decision.reasons),
        "figures": {name: None if figures is None else _finite(figures) for name, figures in decision.figures.items()},
        "seconds": round(result.seconds, 3),
    }
    reasons = " ".join(decision.reasons)
    if not decision.passed:
        store.reject(stream, version.number, reason=reasons, who=WHO, now=scope.now, lease=scope.lease)
        return JobOutcome("rejected", f"version {version.number} was rejected: {reasons}", detail)
    current = store.champion(stream)
    if (current and current.id) != (champion and champion.id):
        left = f"version {version.number} stays candidate: another version became champion while it trained"
        return JobOutcome("rejected", left, detail)
    store.promote(stream, version.number, who=WHO, reason=reasons, now=scope.now, lease=scope.lease)
    return JobOutcome("succeeded", f"version {version.number} is champion: {reasons}", detail)


def _finite(figures: Mapping[str, float]) -> dict[str, float | None]:
    """Figures for a JSON column, which has no NaN."""
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}


@contextmanager
def _work_folder(scope: JobScope) -> Iterator[Path]:
    """A folder that no other run uses; those of earlier runs, which held this lease before, are removed."""
    parent = scope.ports.registry.root / ".retrain" / scope.stream.name
    shutil.rmtree(parent, ignore_errors=True)
    folder = parent / str(scope.lease.token)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
