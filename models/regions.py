"""Class regions: a Gaussian around each class in the encoder's layers, and the distance of a row to one of them.

A row's layers ``a`` are divided by their spread. Class k has the mean m_k and the shrunk covariance

    S_k = w_k C_k + (1 - w_k) C + ridge I,   w_k = n_k / (n_k + dim / 2),   ridge = 1e-3 tr(C) / dim

(C_k: of the class; C: pooled within the classes), and the distance q_k(a) = |W_k' (a - m_k)|^2 with W_k W_k' = S_k^-1,
without log-determinant, divided by its median over the class's own training rows: regions of different size compare.

Source: METHOD, section 2; Lee et al. (2018), "A simple unified framework for detecting out-of-distribution samples and
adversarial attacks", eq. 2, with a covariance per class and shrinkage.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

#: Share of the mean variance added to every direction; without it a dead unit makes the distance infinite.
RIDGE = 1e-3
#: Spread of a unit is at least this share of the mean spread: a unit that was dead in training must not outweigh all
#: others when it wakes.
MIN_SPREAD = 0.05
#: Directions are padded with zeros to a multiple of this: narrow products take another path in the BLAS, whose rounding
#: depends on where a row stands.
PAD_COLUMNS = 32
#: Distances are clipped here, finite in float32.
MAX_DISTANCE = 1e30


@dataclass(frozen=True, slots=True)
class Regions:
    """Fitted class regions; all tensors float32. r* = directions kept, padded to PAD_COLUMNS.

    Attributes:
        scale: Reciprocal spread of each unit (dim,).
        whitening: W_k over the root of the class's median distance (K, dim, r*).
        offset: -W_k' m_k, scaled alike (K, r*).
    """

    scale: Tensor
    whitening: Tensor
    offset: Tensor

    @property
    def n_classes(self) -> int:
        """K."""
        return len(self.offset)

    def distance(self, layers: Tensor, index: int) -> Tensor:
        """Distance of rows to one class region over its median; differentiable.

        Args:
            layers: Layers divided by their spread, float32 (B, dim).
            index: The class.

        Returns:
            float32 (B,), in [0, 1e30]; 1 is typical of the class.
        """
        whitened = torch.addmm(self.offset[index], layers, self.whitening[index])  # (B, r*)
        return torch.clamp(whitened.square().sum(1), max=MAX_DISTANCE)


def fit_regions(layers: Tensor, labels: Tensor, *, n_classes: int, directions: int | None = None) -> Regions:
    """Regions of the training rows.

    Args:
        layers: Layers side by side, (N, dim).
        labels: Class index of each row (N,), every class present.
        n_classes: K.
        directions: Keep this many narrowest directions of each class; all where left out.

    Returns:
        The regions; computed in float64, stored in float32.
    """
    rows = layers.double()
    spread = rows.std(0, correction=0)
    scale = 1.0 / spread.clamp_min(max(MIN_SPREAD * spread.mean().item(), 1e-12))
    rows = rows * scale
    means = torch.stack([rows[labels == k].mean(0) for k in range(n_classes)])  # (K, dim)
    residual = rows - means[labels]
    pooled = residual.T @ residual / len(residual)
    ridge = (RIDGE * pooled.diagonal().mean()).clamp_min(1e-9)
    whitening, offset = [], []
    for k in range(n_classes):
        own = residual[labels == k]
        root = _whitening(_shrunk(own, pooled, ridge), directions)  # (dim, r)
        root = root / (own @ root).square().sum(1).median().clamp_min(1e-6).sqrt()
        whitening.append(_pad(root))
        offset.append(-(means[k] @ whitening[-1]))
    return Regions(scale.float(), torch.stack(whitening).float(), torch.stack(offset).float())


def _shrunk(own: Tensor, pooled: Tensor, ridge: Tensor) -> Tensor:
    """S_k from the class's centred rows (n_k, dim)."""
    n_rows, dim = own.shape
    weight = n_rows / (n_rows + dim / 2)
    covariance = own.T @ own / n_rows
    return weight * covariance + (1.0 - weight) * pooled + ridge * torch.eye(dim, dtype=own.dtype)


def _whitening(covariance: Tensor, directions: int | None) -> Tensor:
    """W with W W' the inverse of ``covariance``, its columns from the narrowest direction on."""
    values, vectors = torch.linalg.eigh(covariance)
    kept = min(directions or len(values), len(values))
    root: Tensor = vectors[:, :kept] / values[:kept].clamp_min(1e-12).sqrt()
    return root


def _pad(matrix: Tensor) -> Tensor:
    """Zero columns up to a multiple of PAD_COLUMNS."""
    dim, columns = matrix.shape
    padded = matrix.new_zeros(dim, columns + -columns % PAD_COLUMNS)
    padded[:, :columns] = matrix
    return padded
