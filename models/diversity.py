"""How much scores and embeddings tell apart: pure numpy, no labels, no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Fewer distinct scores than this share of the distinct rows is a collapse.
MIN_SCORE_DIVERSITY = 0.05
#: So is an embedding of effective rank 1. Two compact classes lie near a line (1.05), so more cannot be asked for.
MIN_EFFECTIVE_RANK = 1.001


def collapse_reason(diversity: float, rank: float) -> str | None:
    """A sentence when the figures show a collapse, else None."""
    if diversity < MIN_SCORE_DIVERSITY:
        return f"Scores have collapsed: {diversity:.3f} distinct scores a row, at least {MIN_SCORE_DIVERSITY} expected."
    if rank < MIN_EFFECTIVE_RANK:
        return f"The embedding has collapsed: effective rank {rank:.2f}, at least {MIN_EFFECTIVE_RANK} expected."
    return None


def score_diversity(scores: NDArray[np.float64], x: NDArray[np.float32]) -> float:
    """Distinct scores (to 6 digits) over distinct rows; 1.0 for no rows."""
    if not len(scores):
        return 1.0
    n_rows = len(np.unique(x, axis=0))
    return min(1.0, len(np.unique(np.round(scores, 6))) / n_rows)


def effective_rank(embedding: NDArray[np.float32]) -> float:
    """Exp of the entropy of the normalised covariance eigenvalues, in [1, Z]; 1.0 for constant rows.

    Source:
        Roy and Vetterli (2007), "The effective rank: a measure of effective dimensionality", on eigenvalues.
    """
    centred = embedding.astype(np.float64) - embedding.mean(axis=0, dtype=np.float64)
    values = np.linalg.svd(centred, compute_uv=False) ** 2
    total = values.sum()
    if total <= 1e-12:
        return 1.0
    shares = values[values > 1e-12 * total] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))
