"""Leave-one-class-out: would the detector catch a class it never saw? It trains one detector for each class and seed.

METHOD, section 4: stratified 60/20/20 train / calibration / test of the other classes, at most 8 000 training rows and
2 500 test rows on each side; the rows of the class that was left out are the unseen ones. AUROC, rates and accuracy are
fractions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import EvaluationError
from models.preparation import LabelledRows, prepare, split_indices
from models.ranking import auroc, average_precision, false_positive_rate_at
from models.scorer import RegionScorer
from models.training import Parts, fit_parts
from models.values import DetectorConfig, FloatArray, IntArray, Progress

MAX_TRAINING_ROWS = 8000
MAX_TEST_ROWS = 2500
CALIBRATION_SHARE = TEST_SHARE = 0.2
#: How many classes are left out in turn when none are named.
N_HELD_OUT = 5
#: A class of fewer rows is not left out by default: its AUROC would be luck.
MIN_UNSEEN_ROWS = 30
#: Nor is one that leaves fewer rows than this: there would be nothing to learn from.
MIN_KNOWN_ROWS = 100
PROTOCOL = "leave-one-class-out, stratified 60/20/20 train/calibration/test, <= 8000 training and 2500 test rows a side"
FIGURES = ("auroc", "aupr", "fpr95", "id_accuracy", "false_alarm_rate", "detection_rate")


def evaluate(
    x: FloatArray,
    y: NDArray[np.str_],
    *,
    config: DetectorConfig,
    held_out: Sequence[str] | None = None,
    seeds: Sequence[int] = (0,),
    dataset: str = "",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run the protocol and report as the command line prints it.

    Args:
        x: Rows (N, D).
        y: Labels (N,), ``""`` where unknown.
        config: How to build each detector.
        held_out: Labels to leave out in turn; ``default_held_out`` where None.
        seeds: Seeds of split and training.
        dataset: Name for the report.
        progress: Called while it runs; may raise to cancel.

    Returns:
        ``dataset``, ``protocol``, ``seeds``, ``train_seconds`` (in all), ``mean`` and ``per_class``.

    Raises:
        EvaluationError: Fewer than two classes, or one that is not there.
        TrainingDataError: The rows cannot be learned from.
    """
    rows = prepare(x, np.asarray(y))
    chosen = _chosen(rows, held_out)
    runs = [(label, seed) for label in chosen for seed in seeds]
    per_class = []
    for number, (label, seed) in enumerate(runs):
        per_class.append(evaluate_one(rows, label, config=config, seed=seed))
        if progress:
            progress((number + 1) / len(runs), f"without {label}: AUROC {per_class[-1]['auroc']:.3f}")
    return {
        "dataset": dataset,
        "protocol": PROTOCOL,
        "seeds": list(seeds),
        "train_seconds": sum(entry["train_seconds"] for entry in per_class),
        "mean": {name: _mean([entry[name] for entry in per_class]) for name in FIGURES},
        "per_class": per_class,
    }


def evaluate_one(rows: LabelledRows, label: str, *, config: DetectorConfig, seed: int) -> dict[str, Any]:
    """One entry of ``per_class``: train without ``label``, then test on both sides."""
    generator = np.random.default_rng(seed)
    unseen = _sample(np.flatnonzero(rows.labels == rows.classes.index(label)), generator=generator)
    known = _without(rows, label)
    train, calibration, test = split_indices(known.labels, shares=(CALIBRATION_SHARE, TEST_SHARE), generator=generator)
    parts = Parts(known.take(train), known.take(calibration), known.take(_sample(test, generator=generator)))
    trained = fit_parts(parts, config=config, seed=seed, max_rows=MAX_TRAINING_ROWS)
    assert isinstance(trained.scorer, RegionScorer)  # noqa: S101 - narrows the Protocol to what fit_parts builds
    values = np.array([spec.value for spec in trained.thresholds])
    figures = _figures(trained.scorer, values, parts.held_out, rows.x[unseen])
    return {"held_out": label, "seed": seed, **figures, "train_seconds": trained.scorer.card.metrics["seconds"]}


def default_held_out(labels: Sequence[str], counts: Sequence[int]) -> tuple[str, ...]:
    """Classes to leave out when none are named: five evenly spaced ones among those that can be.

    Labels that are all numbers are ordered as numbers. A class can be left out when it has at least 30 rows and leaves
    at least 100.

    Args:
        labels: Class labels.
        counts: Rows of each.
    """
    total = sum(counts)
    eligible = [
        label
        for label, count in zip(labels, counts, strict=True)
        if count >= MIN_UNSEEN_ROWS and total - count >= MIN_KNOWN_ROWS
    ]
    ordered = sorted(eligible, key=float) if all(_is_number(label) for label in eligible) else sorted(eligible)
    positions = np.linspace(0, len(ordered) - 1, min(N_HELD_OUT, len(ordered))).round().astype(int)
    return tuple(ordered[position] for position in np.unique(positions))


def _chosen(rows: LabelledRows, held_out: Sequence[str] | None) -> tuple[str, ...]:
    if len(rows.classes) < 2:
        raise EvaluationError("Leave-one-class-out needs at least two classes; the file has one.")
    unknown = sorted(set(held_out or ()) - set(rows.classes))
    if unknown:
        raise EvaluationError(
            f"There is no class {', '.join(unknown)} with 3 rows or more; the file has: {', '.join(rows.classes[:30])}."
        )
    chosen = tuple(held_out) if held_out else default_held_out(rows.classes, np.bincount(rows.labels).tolist())
    if not chosen:
        raise EvaluationError(
            f"No class has {MIN_UNSEEN_ROWS} rows and leaves {MIN_KNOWN_ROWS}; bring more rows or name classes."
        )
    return chosen


def _without(rows: LabelledRows, label: str) -> LabelledRows:
    """The other classes' rows, with indices closed up."""
    index = rows.classes.index(label)
    kept = rows.labels != index
    labels = rows.labels[kept]
    return LabelledRows(rows.x[kept], labels - (labels > index), tuple(name for name in rows.classes if name != label))


def _figures(
    scorer: RegionScorer, values: NDArray[np.float64], known: LabelledRows, unseen: NDArray[np.float32]
) -> dict[str, Any]:
    on_known, on_unseen = scorer.score(known.x), scorer.score(unseen)
    return {
        "auroc": auroc(on_known.score, on_unseen.score),
        "aupr": average_precision(on_known.score, on_unseen.score),
        "fpr95": false_positive_rate_at(on_known.score, on_unseen.score, recall=0.95),
        "id_accuracy": float((on_known.nearest == known.labels).mean()),
        "false_alarm_rate": float((on_known.score > values[on_known.nearest]).mean()),
        "detection_rate": float((on_unseen.score > values[on_unseen.nearest]).mean()),
        "n_known": len(known.x),
        "n_unseen": len(unseen),
    }


def _sample(positions: IntArray, *, generator: np.random.Generator) -> IntArray:
    return np.sort(generator.permutation(positions)[:MAX_TEST_ROWS]).astype(np.int64)


def _mean(figures: list[float]) -> float:
    return math.fsum(figures) / len(figures)


def _is_number(label: str) -> bool:
    try:
        return math.isfinite(float(label))
    except ValueError:
        return False
