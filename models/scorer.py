"""A trained detector ready to serve: numpy rows in, scores out. It learns nothing and does no I/O.

Two steps: the class model names the nearest classes by D_k(z) = |z - mu_k|^2 / 2, then the regions of these few say how
far the row lies from them. Evaluating every region instead gains 0.03 (full) or 0.2 (fast) AUROC points on the mean of
the five evaluation sets, at K / 2 or K times the cost.

A row's score must not depend on its neighbours, although a matrix product may round differently by shape: rows are
computed in blocks of one fixed size, the last one padded, and all matrices are at least 32 columns wide
(``regions.PAD_COLUMNS``). Then every row takes the same path through the BLAS, with any number of threads;
tests/property/models/test_batch_independence.py holds it to that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.class_model import ClassModel
from models.encoder import Encoder
from models.errors import ScoringInputError
from models.features import Standardiser
from models.regions import Regions
from models.values import FloatArray, IntArray, ModelCard, Scores

#: Rows encoded at a time. Larger saves call overhead on big batches, smaller saves padding on small ones: 384 is at the
#: BLAS's best throughput and costs a single row 0.7 ms.
BLOCK_ROWS = 384
#: Rows compared with one region at a time: each region pays for up to this many rows of padding.
REGION_ROWS = 128
#: Rows whose layers are held at a time: bounds memory (10 MB) for batches of any size.
CHUNK_ROWS = 16 * BLOCK_ROWS
#: Distances start here, so that a score is greater than zero.
MIN_DISTANCE = 1e-12


@dataclass(frozen=True, slots=True)
class ProfileSpec:
    """What a profile computes.

    Attributes:
        layers: Indices of the hidden layers that the regions look at besides z.
        shortlist: Nearest classes whose regions are evaluated.
        directions: Directions kept of each region; None for all.
    """

    layers: tuple[int, ...]
    shortlist: int
    directions: int | None


PROFILES = {
    "full": ProfileSpec(layers=(0, 1, 2), shortlist=2, directions=192),
    "fast": ProfileSpec(layers=(0,), shortlist=1, directions=96),
}


@dataclass(frozen=True, slots=True)
class Shortlist:
    """The nearest classes of each row, by the class model.

    Attributes:
        classes: Class indices, nearest first, int64 (B, L).
        distances: Distance to each of their regions, float32 (B, L), finite.
    """

    classes: IntArray
    distances: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class RegionScorer:
    """The ``Scorer`` of both profiles: encoder, class model, regions, log1p of the distance to the nearest one.

    Attributes:
        card: What is known about this version.
        standardiser: Raw rows to network inputs.
        encoder: The trained encoder, in evaluation mode.
        class_model: Names the nearest classes.
        regions: Class regions over the profile's layers.
        centres: Mean network input of each class, where explanations start, float32 (K, D).
    """

    card: ModelCard
    standardiser: Standardiser
    encoder: Encoder
    class_model: ClassModel
    regions: Regions
    centres: Tensor

    @property
    def profile(self) -> ProfileSpec:
        """What is computed."""
        return PROFILES[self.card.config.profile]

    def score(self, x: FloatArray) -> Scores:
        """Score and nearest class of each row of x (B, D); B may be 0.

        Raises:
            ScoringInputError: Wrong width, or NaN.
        """
        shortlist = self.shortlist(x, length=self.profile.shortlist)
        return Scores(score=to_score(shortlist.distances.min(axis=1)), nearest=shortlist.classes[:, 0].copy())

    def shortlist(self, x: FloatArray, *, length: int) -> Shortlist:
        """The ``length`` nearest classes of each row (or all), with distances to their regions.

        Raises:
            ScoringInputError: Wrong width, or NaN.
        """
        rows = self.checked(x)
        length = min(length, self.regions.n_classes)
        classes = np.empty((len(rows), length), dtype=np.int64)
        distances = np.empty((len(rows), length), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(rows), CHUNK_ROWS):
                chunk = slice(start, start + CHUNK_ROWS)
                layers, nearest = self._encode(rows[chunk], length=length)
                classes[chunk] = nearest.numpy()
                distances[chunk] = self._region_distances(layers, nearest).numpy()
        return Shortlist(classes, distances)

    def embed(self, x: FloatArray) -> NDArray[np.float32]:
        """Embedding z of each row, float32 (B, Z).

        Raises:
            ScoringInputError: Wrong width, or NaN.
        """
        rows = self.checked(x)
        result = np.empty((len(rows), self.card.config.embedding_dim), dtype=np.float32)
        with torch.inference_mode():
            for start, block in _blocks(rows):
                _, embedding = self.encoder.layers(self.standardiser(block))
                result[start : start + BLOCK_ROWS] = embedding.numpy()[: len(rows) - start]
        return result

    def explain(self, x: FloatArray, nearest: IntArray) -> NDArray[np.float64]:
        """Contribution of each feature to the score, float64 (B, D); see ``models.explain``."""
        from models.explain import contributions  # noqa: PLC0415 - it needs this module's types

        return contributions(self, self.checked(x), nearest)

    def region_inputs(self, hidden: tuple[Tensor, ...], embedding: Tensor) -> Tensor:
        """What the regions look at: the profile's hidden layers and z, divided by their spread, (B, dim)."""
        return torch.cat((*(hidden[layer] for layer in self.profile.layers), embedding), dim=1).mul_(self.regions.scale)

    def checked(self, x: FloatArray) -> NDArray[np.float32]:
        """Rows as float32, infinities (and what float32 cannot hold) clipped to its range.

        Raises:
            ScoringInputError: Wrong width, or NaN.
        """
        if x.ndim != 2 or x.shape[1] != self.card.dimension:
            raise ScoringInputError(
                f"The model scores rows of {self.card.dimension} features, but got an array of shape {x.shape}; "
                "check the stream's schema against the training file."
            )
        rows = np.ascontiguousarray(np.clip(x, -3e38, 3e38), dtype=np.float32)
        if np.isnan(rows).any():
            raise ScoringInputError("Rows hold NaN, which has no score; reject such records before scoring.")
        return rows

    def _encode(self, rows: NDArray[np.float32], *, length: int) -> tuple[Tensor, Tensor]:
        """Region inputs (B, dim) and nearest classes (B, L) of rows (B, D)."""
        layers, nearest = [], []
        for _, block in _blocks(rows):
            hidden, embedding = self.encoder.layers(self.standardiser(block))
            layers.append(self.region_inputs(hidden, embedding))
            nearest.append(self.class_model.nearest(embedding, length=length))
        return torch.cat(layers)[: len(rows)], torch.cat(nearest)[: len(rows)]

    def _region_distances(self, layers: Tensor, nearest: Tensor) -> Tensor:
        """Distances (B, L) to the regions of the classes in ``nearest``: rows are grouped by class, in blocks."""
        length = nearest.shape[1]
        flat = nearest.reshape(-1)
        order = torch.argsort(flat, stable=True)
        rows = order // length
        ends = torch.bincount(flat, minlength=self.regions.n_classes).cumsum(0).tolist()
        parts, start = [], 0
        for index, end in enumerate(ends):
            for first in range(start, end, REGION_ROWS):
                part = rows[first : min(first + REGION_ROWS, end)]
                block = layers.index_select(0, _padded(part))
                parts.append(self.regions.distance(block, index)[: len(part)])
            start = end
        result = torch.empty(len(flat))
        result[order] = torch.cat(parts)
        return result.reshape(-1, length)


def to_score(distance: NDArray[np.float32]) -> NDArray[np.float64]:
    """Score of a distance: log1p, float64, greater than zero, same shape."""
    return np.log1p(np.maximum(distance.astype(np.float64), MIN_DISTANCE))


def _padded(part: Tensor) -> Tensor:
    """REGION_ROWS positions: those of ``part``, then the first row again and again."""
    return torch.nn.functional.pad(part, (0, REGION_ROWS - len(part))) if len(part) < REGION_ROWS else part


def _blocks(rows: NDArray[np.float32]) -> Iterator[tuple[int, Tensor]]:
    """Start index and block of BLOCK_ROWS rows, the last one padded with zeros."""
    for start in range(0, len(rows), BLOCK_ROWS):
        block = rows[start : start + BLOCK_ROWS]
        if len(block) < BLOCK_ROWS:
            block = np.concatenate([block, np.zeros((BLOCK_ROWS - len(block), rows.shape[1]), dtype=np.float32)])
        yield start, torch.from_numpy(block)
