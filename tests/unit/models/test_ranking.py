"""Ranking figures on inputs small enough to count, and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from models.ranking import auroc, average_precision, false_positive_rate_at


def test_auroc_counts_pairs_with_ties_as_half() -> None:
    """Pairs: 2 > 1 yes, 2 > 2 half, 3 > 1 yes, 3 > 2 yes."""
    assert auroc(np.array([1.0, 2.0]), np.array([2.0, 3.0])) == 3.5 / 4


@pytest.mark.parametrize("decimals", [0, 3])
def test_figures_agree_with_scikit_learn(decimals: int) -> None:
    """With many ties (0 decimals) and hardly any (3)."""
    generator = np.random.default_rng(0)
    known, unseen = generator.normal(size=80).round(decimals), generator.normal(1.0, size=50).round(decimals)
    truth, scores = np.repeat([0, 1], [80, 50]), np.concatenate([known, unseen])
    assert auroc(known, unseen) == pytest.approx(roc_auc_score(truth, scores))
    assert average_precision(known, unseen) == pytest.approx(average_precision_score(truth, scores))


def test_false_positive_rate_at_counts_known_rows_above_the_cut() -> None:
    """Catching 95 % of 20 rows means 19: the cut is the second smallest, 2; one of four known rows reaches it."""
    assert false_positive_rate_at(np.array([0.0, 1.0, 1.5, 2.0]), np.arange(1.0, 21.0), recall=0.95) == 0.25
