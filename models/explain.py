"""Why is this row anomalous? Contribution of each feature to its score, by integrated gradients. It decides nothing.

Sundararajan et al. (2017), "Axiomatic attribution for deep networks", eq. 1: along a path from the class's mean row to
the row, the gradient of the score to each feature times the feature's change sums to the score's change. The path is
straight in the network's inputs (standardised and squashed), where a huge value does not hide the way to it; features
map to inputs one to one, so the sum is the same.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.errors import ScoringInputError
from models.scorer import MIN_DISTANCE, RegionScorer
from models.values import IntArray

#: Points of the Gauss-Legendre rule along the path, and rows at a time (memory: rows * points * 416 floats).
PATH_POINTS = 8
ROWS_AT_A_TIME = 128


def contributions(scorer: RegionScorer, x: NDArray[np.float32], nearest: IntArray) -> NDArray[np.float64]:
    """Contribution of each feature to the score of rows.

    Args:
        scorer: The detector.
        x: Finite rows (B, D); meant for the few that are flagged (about 1 ms a row).
        nearest: Nearest class of each row (B,), as scored. The region that gave the score is that of the nearest class
            or, rarely, of the runner-up; it is found again here.

    Returns:
        Float64 (B, D); a row sums to its score minus the score of the mean row of the region's class. What the
        quadrature misses is shared out in proportion to the contributions' size, so the sum holds to float32 rounding
        (1e-3, absolute).

    Raises:
        ScoringInputError: ``nearest`` does not fit the rows.
    """
    if len(nearest) != len(x):
        raise ScoringInputError(f"There are {len(x)} rows to explain but {len(nearest)} nearest classes.")
    region = torch.from_numpy(_region(scorer, x, nearest))
    result = np.zeros(x.shape, dtype=np.float64)
    for start in range(0, len(x), ROWS_AT_A_TIME):
        rows = slice(start, start + ROWS_AT_A_TIME)
        inputs = scorer.standardiser(torch.from_numpy(x[rows]))
        result[rows] = _integrated(scorer, inputs, region[rows]).numpy()
    return result


def _region(scorer: RegionScorer, x: NDArray[np.float32], nearest: IntArray) -> IntArray:
    """The region that gave the score of each row (B,)."""
    if scorer.profile.shortlist == 1:
        return nearest
    shortlist = scorer.shortlist(x, length=scorer.profile.shortlist)
    best = shortlist.distances.argmin(axis=1)[:, None]
    return np.take_along_axis(shortlist.classes, best, axis=1)[:, 0]


def _integrated(scorer: RegionScorer, inputs: Tensor, region: Tensor) -> Tensor:
    """Integrated gradients of rows that share no region necessarily, float64 (B, D)."""
    baseline = scorer.centres[region]  # (B, D)
    points, weights = np.polynomial.legendre.leggauss(PATH_POINTS)
    fractions = torch.from_numpy(np.concatenate(([0.0], (points + 1) / 2, [1.0]))).float()  # both ends of the path too
    change = inputs - baseline
    path = (baseline + fractions[:, None, None] * change).requires_grad_()  # (P + 2, B, D)
    score = region_score(scorer, path.reshape(-1, inputs.shape[1]), region.repeat(len(fractions)))
    score = score.reshape(len(fractions), -1)
    (gradient,) = torch.autograd.grad(score[1:-1].sum(), path)
    mean_gradient = torch.tensordot(torch.from_numpy(weights / 2), gradient[1:-1].double(), dims=1)
    return _complete(mean_gradient * change.double(), (score[-1] - score[0]).detach())


def region_score(scorer: RegionScorer, inputs: Tensor, region: Tensor) -> Tensor:
    """Score against given regions, differentiable, float64 (B,), from network inputs (B, D)."""
    layers = scorer.region_inputs(*scorer.encoder.layers(inputs))
    distances = inputs.new_zeros(len(inputs))
    for index in sorted(set(region.tolist())):
        rows = torch.nonzero(region == index).squeeze(1)
        distances = distances.index_put((rows,), scorer.regions.distance(layers[rows], index))
    return torch.log1p(distances.double().clamp_min(MIN_DISTANCE))


def _complete(raw: Tensor, excess: Tensor) -> Tensor:
    """Contributions (B, D) that sum to ``excess`` (B,): the error is shared out by size, evenly where all are zero."""
    missing = excess - raw.sum(1)
    size = raw.abs()
    total = size.sum(1, keepdim=True)
    share = torch.where(total > 0, size / total.clamp_min(1e-300), torch.full_like(raw, 1.0 / raw.shape[1]))
    return raw + missing[:, None] * share
