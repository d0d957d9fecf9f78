"""Calibration scores from training rows, each scored by an encoder that did not see it: for when rows are few.

A threshold at a false-alarm rate of 1 % stands on the largest 1 % of the calibration scores. With 200 of them that is
one or two rows, and one odd row among them hides every anomaly; so small files calibrate on their training rows too.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from models.preparation import LabelledRows
from models.scorer import MIN_DISTANCE, RegionScorer
from models.values import IntArray, Scores

#: Encoders trained beside the real one; each sees two thirds of the training rows.
FOLDS = 3
#: Calibration rows that put ten scores beyond a threshold, as a multiple of 1 / rate; with that many, none are crossed.
ENOUGH = 10.0


def is_needed(n_calibration: int, *, false_alarm_rate: float) -> bool:
    """Whether the calibration rows alone leave the threshold to chance."""
    return n_calibration < ENOUGH / false_alarm_rate


def cross_scores(
    calibration: Scores,
    train: LabelledRows,
    *,
    fit_fold: Callable[[LabelledRows, int], RegionScorer],
    seed: int,
) -> Scores:
    """Calibration scores together with out-of-fold scores of the training rows.

    Regions on fewer rows are tighter: the encoder of a fold finds every new row farther out, by a common factor.
    So each fold's scores (logarithms of distances) are moved by one number that makes their median that of the
    calibration scores; the training rows lend their tail, the calibration rows the place. That step is not covered by
    the conformal guarantee: tests/quality holds the realised rate to its aim.

    Args:
        calibration: Scores of rows that no encoder saw, by the encoder that serves.
        train: Its training rows.
        fit_fold: Trains on the rows it is given, as the real encoder is trained; the number is the fold.
        seed: Seed of the folds.

    Returns:
        All scores, those of rows whose class has fewer than ``FOLDS`` rows left out.

    Source:
        In the spirit of Vovk (2015), "Cross-conformal predictors", section 3.
    """
    fold_of = _folds(train.labels, generator=np.random.default_rng(seed))
    middle = float(np.median(calibration.score))
    parts = [calibration]
    for fold in range(FOLDS):
        scorer = fit_fold(train.take(np.flatnonzero(fold_of != fold)), fold)
        found = scorer.score(train.x[fold_of == fold])
        moved = found.score + (middle - np.median(found.score)) if len(found.score) else found.score
        parts.append(Scores(np.maximum(moved, MIN_DISTANCE), found.nearest))
    return Scores(np.concatenate([part.score for part in parts]), np.concatenate([part.nearest for part in parts]))


def _folds(labels: IntArray, *, generator: np.random.Generator) -> IntArray:
    """Fold of each row (N,), even within each class; -1 for rows of classes too small to spare one."""
    folds = np.full(len(labels), -1, dtype=np.int64)
    for index in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == index))
        if len(rows) >= FOLDS:
            folds[rows] = np.arange(len(rows)) % FOLDS
    return folds
