"""A trained detector ready to serve: numpy rows in, scores out. It learns nothing and does no I/O.

A row's score must not depend on its neighbours, although a matrix product may round differently by shape: rows are computed in blocks
of one fixed size, the last one padded, and all matrices are at least 32 columns wide (see ``regions.PAD_COLUMNS``). Then every row
takes the same path through the BLAS, with any number of threads; tests/property/models/test_batch_independence.py holds it to that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.api import FloatArray, IntArray, ModelCard, Scores
from models.encoder import MlpEncoder
from models.errors import ScoringInputError
from models.features import Standardiser
from models.regions import Regions

#: Rows computed at a time. Larger saves call overhead on big batches, smaller saves padding on small ones; a multiple
#: of 96 also suits the BLAS (192 rows: within 2 % of the best throughput, 2 ms for a single row).
BLOCK_ROWS = 192
#: Distances start here, so that a score is greater than zero.
MIN_DISTANCE = 1e-12


@dataclass(frozen=True, slots=True)
class RegionScorer:
    """The ``Scorer`` of both profiles: encoder, regions, log1p of the distance to the nearest one.

    Attributes:
        card: What is known about this version.
        standardiser: Raw rows to network inputs.
        encoder: The trained encoder, in evaluation mode.
        regions: Class regions over all layers ("full") or over z alone ("fast").
        centres: Mean network input of each class, where explanations start, float32 (K, D).
    """

    card: ModelCard
    standardiser: Standardiser
    encoder: MlpEncoder
    regions: Regions
    centres: Tensor

    def score(self, x: FloatArray) -> Scores:
        """Score and nearest class of each row of x (B, D); B may be 0.

        Raises:
            ScoringInputError: Wrong width, or a value that is not finite.
        """
        distances = self.distances(x)
        nearest = distances.argmin(axis=1).astype(np.int64)
        return Scores(score=to_score(distances[np.arange(len(nearest)), nearest]), nearest=nearest)

    def distances(self, x: FloatArray) -> NDArray[np.float32]:
        """Distance of each row to each class region, over the region's median; float32 (B, K), finite.

        The score of a detector that never knew class k is ``to_score`` of the minimum over the other columns.

        Raises:
            ScoringInputError: Wrong width, or a value that is not finite.
        """
        rows = self._checked(x)
        result = np.empty((len(rows), self.regions.n_classes), dtype=np.float32)
        with torch.inference_mode():
            for start, block in _blocks(rows):
                result[start : start + BLOCK_ROWS] = self._block_distances(block).numpy()[: len(rows) - start]
        return result

    def embed(self, x: FloatArray) -> NDArray[np.float32]:
        """Embedding z of each row, float32 (B, Z).

        Raises:
            ScoringInputError: Wrong width, or a value that is not finite.
        """
        rows = self._checked(x)
        result = np.empty((len(rows), self.card.config.embedding_dim), dtype=np.float32)
        with torch.inference_mode():
            for start, block in _blocks(rows):
                hidden = self.encoder.hidden_layers(self.standardiser(block))
                result[start : start + BLOCK_ROWS] = self.encoder.mean(hidden[-1]).numpy()[: len(rows) - start]
        return result

    def explain(self, x: FloatArray, nearest: IntArray) -> NDArray[np.float64]:
        """Contribution of each feature to the score, float64 (B, D); see ``models.explain``."""
        from models.explain import contributions  # noqa: PLC0415 - it needs this module's types

        return contributions(self, self._checked(x), nearest)

    def region_inputs(self, inputs: Tensor) -> Tensor:
        """What the regions look at, (B, dim), from network inputs (B, D); differentiable."""
        hidden = self.encoder.hidden_layers(inputs)
        embedding = self.encoder.mean(hidden[-1])
        return embedding if self.card.config.profile == "fast" else torch.cat((*hidden, embedding), dim=1)

    def _block_distances(self, block: Tensor) -> Tensor:
        return self.regions.distances(self.region_inputs(self.standardiser(block)))

    def _checked(self, x: FloatArray) -> NDArray[np.float32]:
        if x.ndim != 2 or x.shape[1] != self.card.dimension:
            raise ScoringInputError(
                f"The model scores rows of {self.card.dimension} features, but got an array of shape {x.shape}; "
                "check the stream's schema against the training file."
            )
        rows = np.ascontiguousarray(np.clip(x, -3e38, 3e38), dtype=np.float32)
        if not np.isfinite(rows).all():
            raise ScoringInputError("Rows hold NaN, which has no score; reject such records before scoring.")
        return rows


def to_score(distance: NDArray[np.float32]) -> NDArray[np.float64]:
    """Score of a distance: log1p, float64, greater than zero, same shape."""
    return np.log1p(np.maximum(distance.astype(np.float64), MIN_DISTANCE))


def _blocks(rows: NDArray[np.float32]) -> Iterator[tuple[int, Tensor]]:
    """Start index and block of BLOCK_ROWS rows, the last one padded with zeros."""
    for start in range(0, len(rows), BLOCK_ROWS):
        block = rows[start : start + BLOCK_ROWS]
        if len(block) < BLOCK_ROWS:
            block = np.concatenate([block, np.zeros((BLOCK_ROWS - len(block), rows.shape[1]), dtype=np.float32)])
        yield start, torch.from_numpy(block)
