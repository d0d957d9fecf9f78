"""Scores of normal rows to thresholds and p-values: split conformal prediction, pure numpy. It knows no encoder.

A row is judged by its nearest class: with that as the taxonomy (Mondrian conformal prediction, Vovk et al. 2005,
section 4.5) the share of flagged normal rows is at most alpha for each nearest class, while rows are exchangeable with
the calibration rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.errors import CalibrationError
from models.values import FloatArray, IntArray, ThresholdSpec

#: A threshold keeps at most this many calibration scores (16 kB); p-values below 1/1000 stay exact, others rounded up.
MAX_KEPT_SCORES = 2000
METHOD_OWN = "conformal"
METHOD_POOLED = "conformal-pooled"
METHOD_SMALLEST = "conformal-pooled-smallest"


def conformal_threshold(scores: FloatArray, *, false_alarm_rate: float) -> float:
    """Smallest threshold that a new normal score exceeds with probability at most ``false_alarm_rate``.

    Args:
        scores: Scores of normal calibration samples, shape (n,); higher is more anomalous.
        false_alarm_rate: Target rate, a fraction in [1 / (n + 1), 1).

    Returns:
        Threshold in the unit of the scores; a sample is flagged when its score is greater.

    Raises:
        CalibrationError: Too few scores for the rate asked for, or scores that are not finite.

    Source:
        Split conformal prediction; Bates et al. (2023), "Testing for outliers with conformal p-values", section 1.
    """
    _check_rate(false_alarm_rate)
    ordered = _sorted_finite(scores)
    allowed = _allowed_exceedances(len(ordered), false_alarm_rate)
    if allowed < 0:
        raise CalibrationError(
            f"{len(ordered)} calibration scores cannot keep a false-alarm rate of {false_alarm_rate:g}; bring at least "
            f"{needed_scores(false_alarm_rate)}, or ask for {1 / (len(ordered) + 1):.3g} or more.",
            n_scores=len(ordered),
            needed=needed_scores(false_alarm_rate),
        )
    return float(ordered[len(ordered) - 1 - allowed])


def needed_scores(false_alarm_rate: float) -> int:
    """Fewest calibration scores that reach the rate: the smallest n with 1 / (n + 1) <= rate."""
    n_scores = max(1, math.ceil(1.0 / false_alarm_rate) - 2)
    while 1.0 / (n_scores + 1) > false_alarm_rate:
        n_scores += 1
    return n_scores


def calibrate(
    scores: FloatArray, nearest: IntArray, *, classes: Sequence[str], alpha: float
) -> tuple[ThresholdSpec, ...]:
    """One threshold per class from scores of normal rows.

    A class with fewer than 1 / alpha - 1 own scores takes the pool of all scores (``"conformal-pooled"``). When even
    the pool is too small, every such class takes the pool's largest score and states the rate that this keeps, 1 / (n +
    1), as its ``alpha`` (``"conformal-pooled-smallest"``): a detector on little data works, and says what it cannot
    promise.

    Args:
        scores: Scores of normal rows, (n,), finite.
        nearest: Nearest class of each row, an index into ``classes``, (n,).
        classes: Labels in the order of the card.
        alpha: Target false-alarm rate, in (0, 0.5).

    Returns:
        Thresholds in the order of ``classes``.

    Raises:
        CalibrationError: No scores, scores that are not finite, or a rate out of range.
    """
    _check_rate(alpha)
    ordered = _sorted_finite(scores)
    enough = needed_scores(alpha)
    specs = []
    for index, label in enumerate(classes):
        own = np.sort(np.asarray(scores, dtype=np.float64)[nearest == index])
        if len(own) >= enough:
            specs.append(_spec(label, own, alpha=alpha, method=METHOD_OWN))
        elif len(ordered) >= enough:
            specs.append(_spec(label, ordered, alpha=alpha, method=METHOD_POOLED))
        else:
            specs.append(_spec(label, ordered, alpha=1.0 / (len(ordered) + 1), method=METHOD_SMALLEST))
    return tuple(specs)


def threshold_values(nearest: IntArray, specs: Sequence[ThresholdSpec]) -> NDArray[np.float64]:
    """Threshold that applies to each row, float64 (B,)."""
    return np.array([spec.value for spec in specs], dtype=np.float64)[nearest]


def p_values(scores: FloatArray, nearest: IntArray, specs: Sequence[ThresholdSpec]) -> NDArray[np.float64]:
    """Conformal p-values: (1 + number of calibration scores >= s) / (n + 1), by nearest class.

    Never too small: where a spec keeps a subsample of its scores, the count is rounded up. p <= alpha exactly when
    score > value, also for a value that was moved by hand or by a limited step: there the decision stands and p is
    moved to its side of alpha.

    Args:
        scores: Scores (B,).
        nearest: Nearest class of each row, an index into ``specs``, (B,).
        specs: Thresholds in the order of the card.

    Returns:
        p-values in (0, 1], float64 (B,).

    Source:
        Bates et al. (2023), "Testing for outliers with conformal p-values", eq. 3.
    """
    values = np.asarray(scores, dtype=np.float64)
    result = np.ones(len(values))
    for index in np.unique(nearest):
        rows = nearest == index
        result[rows] = _class_p_values(values[rows], specs[index])
    return result


def _class_p_values(scores: NDArray[np.float64], spec: ThresholdSpec) -> NDArray[np.float64]:
    kept = spec.calibration_scores
    ranks = kept_ranks(spec.n_calibration, alpha=spec.alpha) if len(kept) < spec.n_calibration else np.arange(len(kept))
    n_scores = spec.n_calibration
    # With j kept scores below s, at least ranks[j - 1] + 1 scores are below it: at most the others are >= s.
    at_most = np.concatenate([[n_scores], n_scores - 1 - ranks[: len(kept)]])
    p = (1.0 + at_most[np.searchsorted(kept, scores, side="left")]) / (n_scores + 1.0)
    flagged = scores > spec.value
    just_above = np.nextafter(spec.alpha, 1.0)
    return np.where(flagged, np.minimum(p, spec.alpha), np.maximum(p, just_above))


def kept_ranks(n_scores: int, *, alpha: float) -> NDArray[np.int64]:
    """Ranks (0 = smallest) of the calibration scores that a threshold keeps; all of them up to MAX_KEPT_SCORES.

    Half of them are the largest scores, where p-values are small; the rest is evenly spaced; the threshold's own rank
    is among them.
    """
    if n_scores <= MAX_KEPT_SCORES:
        return np.arange(n_scores, dtype=np.int64)
    half = MAX_KEPT_SCORES // 2
    even = np.linspace(0, n_scores - 1, half - 1).round().astype(np.int64)
    tail = np.arange(n_scores - half, n_scores, dtype=np.int64)
    own = n_scores - 1 - max(0, _allowed_exceedances(n_scores, alpha))
    return np.unique(np.concatenate([even, tail, [own]])).astype(np.int64)


def limited_step(old: float, new: float, *, max_ratio: float) -> tuple[float, bool]:
    """A threshold on its way from ``old`` to ``new``, at most ``max_ratio`` times larger or smaller than ``old``.

    A patient attacker must not walk a threshold away, one recalibration after the other.

    Args:
        old: Threshold in force, greater than zero.
        new: Threshold wanted, greater than zero.
        max_ratio: Largest allowed ratio between them, greater than 1.

    Returns:
        The threshold to use, and whether it was limited.

    Raises:
        CalibrationError: A threshold that is not positive and finite, or a ratio not greater than 1.
    """
    if not (math.isfinite(old) and math.isfinite(new) and old > 0 and new > 0 and max_ratio > 1):
        raise CalibrationError(
            f"Cannot limit a step from {old} to {new} with ratio {max_ratio}; "
            "thresholds must be positive and the ratio above 1."
        )
    limited = min(max(new, old / max_ratio), old * max_ratio)
    return limited, limited != new


def limited_specs(
    old: Sequence[ThresholdSpec], new: Sequence[ThresholdSpec], *, max_ratio: float
) -> tuple[tuple[ThresholdSpec, ...], tuple[str, ...]]:
    """New thresholds with every step limited against the old one of the same class.

    Returns:
        The thresholds, and the labels of the classes where the step was limited. A class without an old threshold moves
        freely.
    """
    before = {spec.class_label: spec.value for spec in old}
    specs, limited = [], []
    for spec in new:
        value, was_limited = limited_step(before.get(spec.class_label, spec.value), spec.value, max_ratio=max_ratio)
        specs.append(replace(spec, value=value))
        limited += [spec.class_label] if was_limited else []
    return tuple(specs), tuple(limited)


def _spec(label: str, ordered: NDArray[np.float64], *, alpha: float, method: str) -> ThresholdSpec:
    n_scores = len(ordered)
    allowed = _allowed_exceedances(n_scores, alpha)
    return ThresholdSpec(
        class_label=label,
        value=float(ordered[n_scores - 1 - allowed]),
        alpha=alpha,
        n_calibration=n_scores,
        method=method,
        calibration_scores=ordered[kept_ranks(n_scores, alpha=alpha)],
    )


def _allowed_exceedances(n_scores: int, alpha: float) -> int:
    """Largest c with (1 + c) / (n + 1) <= alpha, compared as floats exactly as p-values are; -1 when there is none."""
    count = int(alpha * (n_scores + 1)) + 1
    while count > 0 and count / (n_scores + 1.0) > alpha:
        count -= 1
    return count - 1


def _sorted_finite(scores: FloatArray) -> NDArray[np.float64]:
    values = np.sort(np.asarray(scores, dtype=np.float64))
    if not len(values):
        raise CalibrationError("There are no calibration scores; bring scores of normal rows.", n_scores=0)
    if not np.isfinite(values).all():
        raise CalibrationError("Calibration scores are not all finite; check the model before calibrating it.")
    return values


def _check_rate(rate: float) -> None:
    if not 0.0 < rate < 0.5:
        raise CalibrationError(f"The false-alarm rate must lie between 0 and 0.5, not {rate}.", false_alarm_rate=rate)
