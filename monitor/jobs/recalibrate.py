"""Job ``recalibrate``: thresholds of the champion from recent samples. What it decides is ``calibration.py``.

Decision 5 in README, continued: whose word counts, and which samples.

Context: a person sets a threshold by hand, and a job that runs every quarter of an hour would undo it. And a champion
that was retrained on stored samples scores those very samples too low.
Decision: a class whose newest threshold was set by hand is left alone until somebody runs the job with
``--include-manual`` or another version becomes champion. Samples up to the end of the champion's training window, and
rows of training files, do not count; until enough new ones have come, the thresholds from training stay.
Consequences: after a retraining the first recalibration waits for fresh samples; it says how many are missing.
Rejected: a hold that expires (nobody remembers when); telling training rows apart one by one (their ids are not kept).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from models.thresholds import needed_scores
from monitor.jobs import calibration, evidence
from monitor.jobs.base import JobOutcome, JobScope
from monitor.jobs.calibration import ClassStep
from monitor.jobs.evidence import Evidence

if TYPE_CHECKING:
    from monitor.store.rows import ModelVersion, Threshold

logger = logging.getLogger(__name__)

WHO = "job:recalibrate"


def recalibrate(scope: JobScope) -> JobOutcome:
    """Set the champion's thresholds by recent samples, all classes in one transaction; old rows stay.

    Samples that the champion may have learned from do not count: their scores are too low.

    Raises:
        RegistryError: The champion's artifact does not verify.
        LeaseLost: Another process does this now; nothing was written.
    """
    version = scope.ports.store.models.champion(scope.stream.name)
    if version is None:
        return JobOutcome("skipped", f"{scope.stream.name} has no champion yet; train one: narrows train FILE")
    started = scope.ports.clock.monotonic()
    rows = scope.ports.store.models.thresholds(version.id)
    steps = _steps(scope, version, rows)
    scope.check()
    changed = tuple(step.spec for step in steps if step.spec is not None)
    if changed:
        scope.ports.store.models.set_thresholds(
            version.id, changed, source="recalibration", cause=calibration.cause(steps), who=WHO, now=scope.now,
            lease=scope.lease,
        )  # fmt: skip
    return _report(scope, version, steps, seconds=scope.ports.clock.monotonic() - started)


def _steps(scope: JobScope, version: ModelVersion, rows: Sequence[Threshold]) -> tuple[ClassStep, ...]:
    settings = scope.stream.recalibration
    return calibration.decide(
        _evidence(scope, version),
        [row.spec() for row in rows],
        alpha=scope.stream.detector.false_alarm_rate,
        min_samples=settings.min_samples,
        max_step_ratio=settings.max_step_ratio,
        manual=frozenset() if scope.force else frozenset(row.class_label for row in rows if row.source == "manual"),
    )


def _evidence(scope: JobScope, version: ModelVersion) -> Evidence:
    """Recent samples that the champion never saw, rescored by it."""
    samples = scope.ports.store.samples.complete_set(
        scope.stream.name, limit=scope.stream.samples.recent, after=version.trained_to
    )
    usable, known, vouched = evidence.trustworthy(samples.labels, samples.verdicts, classes=version.classes)
    scope.progress(0.2, f"rescoring {int(usable.sum())} samples by version {version.number}")
    if not usable.any():
        nothing = np.empty(0, dtype=bool)
        return Evidence(np.empty(0), np.empty(0, dtype=np.int64), nothing, nothing)
    scores = scope.ports.registry.load(version.artifact_uri, version.sha256).score(samples.x[usable])
    return Evidence(scores.score, scores.nearest, known[usable], vouched[usable])


def _report(scope: JobScope, version: ModelVersion, steps: Sequence[ClassStep], *, seconds: float) -> JobOutcome:
    detail = {
        "model_version": version.number,
        "classes": {step.class_label: step.as_json() for step in steps},
        "seconds": round(seconds, 3),
    }
    for line in calibration.warnings(steps):
        logger.warning("%s: %s", scope.stream.name, line, extra={"action": "labels_needed"})
    changed = [step for step in steps if step.spec is not None]
    if changed:
        return JobOutcome("succeeded", f"{len(changed)} of {len(steps)} thresholds: {calibration.cause(steps)}", detail)
    if all(step.basis == "too few" for step in steps):
        need = max(scope.stream.recalibration.min_samples, needed_scores(scope.stream.detector.false_alarm_rate))
        return JobOutcome("skipped", calibration.shortage(steps, need=need), detail)
    return JobOutcome("succeeded", "no threshold had to move", detail)
