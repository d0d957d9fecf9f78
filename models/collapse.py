"""Does the encoder still tell rows apart? Figures of collapse and the refusal; it measures no detection.

One centre per class collapses quietly when the input is contaminated (METHOD, section 1, traps): losses look fine and
every score is the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.diversity import collapse_reason, effective_rank, score_diversity
from models.encoder import make_encoder
from models.errors import CollapseError
from models.preparation import LabelledRows
from models.scorer import RegionScorer
from models.values import IntArray

#: An encoder that names classes worse, by this much, than nearest class means after random weights do, has collapsed.
MAX_WORSE_THAN_RANDOM = 0.15
#: Rows looked at.
MAX_ROWS = 2000


@dataclass(frozen=True, slots=True)
class CollapseFigures:
    """How much the encoder tells apart.

    Attributes:
        score_diversity: Distinct scores over distinct rows, in (0, 1].
        effective_rank: Effective rank of the embedding, in [1, Z].
        accuracy: Share of rows whose nearest class is their label.
        random_accuracy: The same by the nearest class mean in the embedding of an encoder with random weights.
    """

    score_diversity: float
    effective_rank: float
    accuracy: float
    random_accuracy: float


def measure_collapse(scorer: RegionScorer, rows: LabelledRows, *, seed: int) -> CollapseFigures:
    """Figures of collapse on at least one labelled row; ``seed`` draws the random encoder."""
    x, labels = rows.x[:MAX_ROWS], rows.labels[:MAX_ROWS]
    scores = scorer.score(x)
    return CollapseFigures(
        score_diversity=score_diversity(scores.score, x),
        effective_rank=effective_rank(scorer.embed(x)),
        accuracy=float((scores.nearest == labels).mean()),
        random_accuracy=_nearest_mean_accuracy(_random_embedding(scorer, x, seed=seed), labels),
    )


def check_collapse(figures: CollapseFigures) -> None:
    """Refuse a collapsed encoder.

    Raises:
        CollapseError: Scores or embedding tell nothing apart.
    """
    reason = collapse_reason(figures.score_diversity, figures.effective_rank)
    if not reason and figures.accuracy < figures.random_accuracy - MAX_WORSE_THAN_RANDOM:
        reason = (
            f"The encoder names {figures.accuracy:.1%} of the rows right, random weights {figures.random_accuracy:.1%}."
        )
    if reason:
        raise CollapseError(f"{reason} Check for contaminated or constant rows, then train again.")


def _random_embedding(scorer: RegionScorer, x: NDArray[np.float32], *, seed: int) -> NDArray[np.float32]:
    generator = torch.Generator().manual_seed(seed)
    encoder = make_encoder(scorer.card.config, dimension=x.shape[1], generator=generator)
    with torch.inference_mode():
        _, embedding = encoder.layers(scorer.standardiser(torch.from_numpy(x)))
    values: NDArray[np.float32] = embedding.numpy()
    return values


def _nearest_mean_accuracy(embedding: NDArray[np.float32], labels: IntArray) -> float:
    """Share of every second row that is nearest to the mean of its own class over the other rows."""
    present = np.unique(labels[::2])
    means = np.stack([embedding[::2][labels[::2] == index].mean(axis=0) for index in present])  # (K, Z)
    # Squared distances less what is the same for all classes, (N / 2, K).
    squared = (means**2).sum(axis=1) - 2.0 * embedding[1::2] @ means.T
    hits = present[squared.argmin(axis=1)] == labels[1::2]
    return float(hits.mean()) if len(hits) else 0.0
