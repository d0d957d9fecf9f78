"""Figures of a ranking: how well scores set unseen rows apart from known ones. Pure numpy and scipy; no thresholds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from models.values import FloatArray


def auroc(known: FloatArray, unseen: FloatArray) -> float:
    """Probability that an unseen row scores higher than a known one, ties count half (Mann-Whitney); a fraction.

    Args:
        known: Scores of known rows (n,), n >= 1.
        unseen: Scores of unseen rows (m,), m >= 1.
    """
    ranks = rankdata(np.concatenate([known, unseen]))
    m = len(unseen)
    return float((ranks[len(known) :].sum() - m * (m + 1) / 2) / (m * len(known)))


def average_precision(known: FloatArray, unseen: FloatArray) -> float:
    """Area under the precision-recall curve with unseen rows as positives, by steps; tied scores are one step."""
    true_positives, false_positives = _counts_above(known, unseen)
    precision = true_positives / (true_positives + false_positives)
    recall_gain = np.diff(true_positives, prepend=0) / len(unseen)
    return float((precision * recall_gain).sum())


def false_positive_rate_at(known: FloatArray, unseen: FloatArray, *, recall: float) -> float:
    """Share of known rows at or above the highest score that still catches ``recall`` of the unseen ones."""
    wanted = int(np.ceil(recall * len(unseen) - 1e-9))
    cut = np.sort(unseen)[len(unseen) - max(1, wanted)]
    return float((np.asarray(known) >= cut).mean())


def _counts_above(known: FloatArray, unseen: FloatArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Unseen and known rows at or above each distinct score, from the highest down."""
    cuts = np.unique(np.concatenate([known, unseen]))[::-1]
    above_unseen = len(unseen) - np.searchsorted(np.sort(unseen), cuts, side="left")
    above_known = len(known) - np.searchsorted(np.sort(known), cuts, side="left")
    return above_unseen.astype(np.int64), above_known.astype(np.int64)
