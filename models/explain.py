"""Why is this row anomalous? Contribution of each feature to its score, by integrated gradients. It decides nothing.

Sundararajan et al. (2017), "Axiomatic attribution for deep networks", eq. 1: along a path from the class's mean row to the row, the gradient
of the score to each feature times the feature's change sums to the score's change. The path is straight in the network's inputs (standardised
and squashed), where a huge value does not hide the way to it; features map to inputs one to one, so the sum is the same.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.api import IntArray
from models.errors import ScoringInputError
from models.scorer import MIN_DISTANCE, RegionScorer

#: Points of the Gauss-Legendre rule along the path, and rows at a time (memory: rows * points * 416 floats).
PATH_POINTS = 24
ROWS_AT_A_TIME = 64


def contributions(scorer: RegionScorer, x: NDArray[np.float32], nearest: IntArray) -> NDArray[np.float64]:
    """Contribution of each feature to the score of rows.

    Args:
        scorer: The detector.
        x: Finite rows (B, D); meant for the few that are flagged (about 1 ms a row).
        nearest: Nearest class of each row (B,), as scored.

    Returns:
        Float64 (B, D); a row sums to its score minus the score of its class's mean row. What the quadrature misses is shared out
        in proportion to the contributions' size, so the sum holds to float32 rounding (1e-4 of the score).

    Raises:
        ScoringInputError: ``nearest`` does not fit the rows or the classes.
    """
    if len(nearest) != len(x) or (len(x) and not 0 <= int(nearest.min()) <= int(nearest.max()) < len(scorer.centres)):
        raise ScoringInputError("Each row to explain needs the index of its nearest class, as scored.")
    result = np.zeros(x.shape, dtype=np.float64)
    for start in range(0, len(x), ROWS_AT_A_TIME):
        rows = slice(start, start + ROWS_AT_A_TIME)
        inputs = scorer.standardiser(torch.from_numpy(x[rows]))
        result[rows] = _integrated(scorer, inputs, torch.from_numpy(np.asarray(nearest[rows]))).numpy()
    return result


def _integrated(scorer: RegionScorer, inputs: Tensor, nearest: Tensor) -> Tensor:
    baseline = scorer.centres[nearest]  # (B, D)
    points, weights = np.polynomial.legendre.leggauss(PATH_POINTS)
    fractions = torch.from_numpy((points + 1) / 2).float()  # (P,)
    change = inputs - baseline
    path = baseline + fractions[:, None, None] * change  # (P, B, D)
    flat = path.reshape(-1, inputs.shape[1]).requires_grad_()
    score = class_score(scorer, flat, nearest.repeat(PATH_POINTS))
    (gradient,) = torch.autograd.grad(score.sum(), flat)
    mean_gradient = torch.tensordot(torch.from_numpy(weights / 2), gradient.reshape(path.shape).double(), dims=1)
    raw = mean_gradient * change.double()
    with torch.no_grad():
        excess = class_score(scorer, inputs, nearest) - class_score(scorer, baseline, nearest)
    return _complete(raw, excess)


def class_score(scorer: RegionScorer, inputs: Tensor, nearest: Tensor) -> Tensor:
    """Score against a given class, differentiable, float64 (B,), from network inputs (B, D)."""
    distances = scorer.regions.distances(scorer.region_inputs(inputs)).double()
    own = distances.gather(1, nearest[:, None]).squeeze(1)
    return torch.log1p(own.clamp_min(MIN_DISTANCE))


def _complete(raw: Tensor, excess: Tensor) -> Tensor:
    """Contributions (B, D) that sum to ``excess`` (B,): the error is shared out by size, evenly where all are zero."""
    missing = excess - raw.sum(1)
    size = raw.abs()
    total = size.sum(1, keepdim=True)
    share = torch.where(total > 0, size / total.clamp_min(1e-300), torch.full_like(raw, 1.0 / raw.shape[1]))
    return raw + missing[:, None] * share
