"""Does the encoder still tell rows apart? Figures of collapse and the refusal; it knows no labels.

One centre per class collapses quietly when the input is contaminated (METHOD, section 1, traps): losses look fine and
every score is the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.encoder import MlpEncoder
from models.errors import CollapseError
from models.scorer import RegionScorer

#: Fewer distinct scores than this share of the rows, or a lower effective rank, is a collapse.
MIN_SCORE_DIVERSITY = 0.05
MIN_EFFECTIVE_RANK = 1.2
#: Rows looked at.
MAX_ROWS = 2000


@dataclass(frozen=True, slots=True)
class CollapseFigures:
    """How much the encoder tells apart.

    Attributes:
        score_diversity: Distinct scores over distinct rows, in (0, 1].
        effective_rank: Effective rank of the embedding, in [1, Z].
        random_effective_rank: The same of an encoder with random weights, for comparison.
    """

    score_diversity: float
    effective_rank: float
    random_effective_rank: float


def measure_collapse(scorer: RegionScorer, x: NDArray[np.float32], *, seed: int) -> CollapseFigures:
    """Figures of collapse on rows (N, D), N >= 1; ``seed`` draws the random encoder."""
    rows = x[:MAX_ROWS]
    encoder = MlpEncoder(rows.shape[1], scorer.card.config.embedding_dim, generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        _, random_embedding = encoder.layers(scorer.standardiser(torch.from_numpy(rows)))
    return CollapseFigures(
        score_diversity=score_diversity(scorer.score(rows).score, rows),
        effective_rank=effective_rank(scorer.embed(rows)),
        random_effective_rank=effective_rank(random_embedding.numpy()),
    )


def check_collapse(figures: CollapseFigures) -> None:
    """Refuse a collapsed encoder.

    Raises:
        CollapseError: Scores or embedding tell nothing apart.
    """
    reason = collapse_reason(figures.score_diversity, figures.effective_rank)
    if reason:
        raise CollapseError(f"{reason} Check for contaminated or constant rows, then train again.")


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
