"""Class regions: Gaussians around each class in the encoder's layers, and the distance to the nearest one.

A row's layers ``a`` are divided by their spread. Class k has the mean m_k and the shrunk covariance

    S_k = w_k C_k + (1 - w_k) C + ridge I,   w_k = n_k / (n_k + dim / 2),   ridge = 1e-3 tr(C) / dim

(C_k: of the class; C: pooled within the classes), and the distance q_k(a) = (a - m_k)' S_k^-1 (a - m_k). Distances are
divided by their median over the class's own training rows, so that regions of different size compare. (METHOD, section 2;
Lee et al. (2018), "A simple unified framework for detecting out-of-distribution samples", with shrinkage.)

An exact S_k^-1 for each class costs K matrices of dim^2. Instead of it: the ``rank`` widest directions of C, whitened; in them the
``class_rank`` eigenvectors where the class differs most from the pool, and one constant for the rest; outside them one
constant for all. Exact when rank = class_rank = dim. Every row does the same work whatever its class, so nothing depends on the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

#: Share of the mean variance added to every direction; without it a dead unit makes the distance infinite.
RIDGE = 1e-3
#: Spread of a unit is at least this share of the mean spread: a unit dead in training must not outweigh all others when it wakes.
MIN_SPREAD = 0.05
#: Matrix columns are padded with zeros to a multiple of this: narrow products take another path in the BLAS, whose
#: rounding depends on where a row stands.
PAD_COLUMNS = 32
#: Distances are clipped here, finite in float32 also after division by a median.
MAX_DISTANCE = 1e30


@dataclass(frozen=True, slots=True)
class Regions:
    """Fitted class regions; all tensors float32. R = rank, r = class_rank, * = padded to PAD_COLUMNS.

    Attributes:
        scale: Reciprocal spread of each unit (dim,).
        basis: Whitening directions, then each class mean's part outside of them (dim, (R + K)*).
        outside: Squared length in ``basis`` units to squared length outside, times the outside constant (R,).
        outside_precision: Constant outside the directions (); 0 when R = dim.
        class_basis: Directions of every class, then every whitened class mean (R, (K r + K)*).
        offset: Projection of every class mean on its directions (K r,).
        weight: Weight of each squared projection in its class's distance (K r, K*).
        rest_precision: Constant of each class for the rest inside the directions (K,).
        constant: What does not depend on the row (K,).
        inverse_median: One over the median distance of the class's own rows (K,).
    """

    scale: Tensor
    basis: Tensor
    outside: Tensor
    outside_precision: Tensor
    class_basis: Tensor
    offset: Tensor
    weight: Tensor
    rest_precision: Tensor
    constant: Tensor
    inverse_median: Tensor

    @property
    def n_classes(self) -> int:
        """K."""
        return len(self.constant)

    def distances(self, layers: Tensor) -> Tensor:
        """Distance to every class region over its median, (B, K), in [0, 1e30].

        Args:
            layers: Hidden layers and z side by side, float32 (B, dim).
        """
        return (self._raw(layers) * self.inverse_median).clamp_(0.0, MAX_DISTANCE)

    def _raw(self, layers: Tensor) -> Tensor:
        n_directions, n_classes = len(self.outside), self.n_classes
        scaled = layers * self.scale
        first = scaled @ self.basis  # (B, (R + K)*)
        whitened = first[:, :n_directions]
        outside_dot = first[:, n_directions : n_directions + n_classes]
        second = whitened @ self.class_basis  # (B, (K r + K)*)
        n_projected = len(self.offset)
        projected = (second[:, :n_projected] - self.offset).square_()
        mean_dot = second[:, n_projected : n_projected + n_classes]
        distance = (projected @ self.weight)[:, :n_classes]
        squared = whitened.square()
        inside = squared.sum(1, keepdim=True)
        distance = distance + (inside - 2.0 * mean_dot) * self.rest_precision
        outside = scaled.square().sum(1, keepdim=True) * self.outside_precision - (squared * self.outside).sum(
            1, keepdim=True
        )
        distance = distance + (outside - outside_dot)
        return (distance + self.constant).nan_to_num_(nan=MAX_DISTANCE, posinf=MAX_DISTANCE, neginf=0.0).clamp_min_(0.0)


@dataclass(frozen=True, slots=True)
class _Pool:
    """The pooled view in float64: whitening U D^(1/2) of the R widest directions, and the constant outside."""

    directions: Tensor  # (dim, R), orthonormal
    root_precision: Tensor  # (R,)
    outside_precision: Tensor  # ()
    ridge: Tensor  # ()


def fit_regions(
    layers: Tensor, labels: Tensor, *, n_classes: int, rank: int | None = None, class_rank: int | None = None
) -> Regions:
    """Regions of the training rows.

    Args:
        layers: Hidden layers and z side by side, (N, dim).
        labels: Class index of each row (N,), every class present.
        n_classes: K.
        rank: R; all dimensions where left out.
        class_rank: r; R where left out.

    Returns:
        The regions; computed in float64, stored in float32.
    """
    rows = layers.double()
    spread = rows.std(0, correction=0)
    scale = 1.0 / spread.clamp_min(max(MIN_SPREAD * spread.mean().item(), 1e-12))
    rows = rows * scale
    means = torch.stack([rows[labels == k].mean(0) for k in range(n_classes)])
    residual = rows - means[labels]
    pool = _fit_pool(residual, rank=min(rank or rows.shape[1], rows.shape[1]))
    r = min(class_rank or len(pool.root_precision), len(pool.root_precision))
    parts = [_fit_class(residual[labels == k], pool, class_rank=r) for k in range(n_classes)]
    regions = _assemble(scale, means, pool, parts)
    raw = regions._raw(layers)  # noqa: SLF001 - the module's own class, before its medians are known
    medians = torch.stack([raw[labels == k, k].median() for k in range(n_classes)]).clamp_min(1e-6)
    return _replace_medians(regions, medians)


def _fit_pool(residual: Tensor, *, rank: int) -> _Pool:
    dim = residual.shape[1]
    covariance = residual.T @ residual / len(residual)
    ridge = (RIDGE * covariance.trace() / dim).clamp_min(1e-9)
    values, vectors = torch.linalg.eigh(covariance)
    precision = 1.0 / (values.flip(0).clamp_min(0.0) + ridge)
    outside = precision[rank:].mean() if rank < dim else torch.zeros((), dtype=torch.float64)
    return _Pool(vectors.flip(1)[:, :rank], precision[:rank].sqrt(), outside, ridge)


def _fit_class(residual: Tensor, pool: _Pool, *, class_rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Directions (R, r), their extra precision (r,) and the precision of the rest () of one class, in whitened units."""
    n_rows, dim = residual.shape
    own = n_rows / (n_rows + dim / 2)
    whitened = residual @ pool.directions * pool.root_precision
    pooled = torch.diag(1.0 - pool.ridge * pool.root_precision.square())
    shrunk = (
        own * (whitened.T @ whitened / n_rows)
        + (1.0 - own) * pooled
        + torch.diag(pool.ridge * pool.root_precision.square())
    )
    values, vectors = torch.linalg.eigh(shrunk)
    precision = 1.0 / values.clamp_min(1e-6)
    order = (precision - precision.median()).abs().argsort(descending=True)
    kept, rest = order[:class_rank], order[class_rank:]
    rest_precision = precision[rest].mean() if len(rest) else torch.zeros((), dtype=torch.float64)
    return vectors[:, kept], precision[kept] - rest_precision, rest_precision


def _assemble(scale: Tensor, means: Tensor, pool: _Pool, parts: list[tuple[Tensor, Tensor, Tensor]]) -> Regions:
    whitening = pool.directions * pool.root_precision  # (dim, R)
    mean_inside = means @ whitening  # (K, R), whitened
    mean_outside = means - (means @ pool.directions) @ pool.directions.T  # (K, dim)
    rest = torch.stack([part[2] for part in parts])
    class_rank = parts[0][0].shape[1]
    weight = torch.block_diag(*[part[1].reshape(class_rank, 1) for part in parts])
    outside_terms = pool.outside_precision * mean_outside.square().sum(1)
    tensors = {
        "scale": scale,
        "basis": _pad(torch.cat((whitening, 2.0 * pool.outside_precision * mean_outside.T), 1)),
        "outside": pool.outside_precision / pool.root_precision.square(),
        "outside_precision": pool.outside_precision,
        "class_basis": _pad(torch.cat((*[part[0] for part in parts], mean_inside.T), 1)),
        "offset": torch.cat([mean @ part[0] for mean, part in zip(mean_inside, parts, strict=True)]),
        "weight": _pad(weight),
        "rest_precision": rest,
        "constant": rest * mean_inside.square().sum(1) + outside_terms,
        "inverse_median": torch.ones(len(parts)),
    }
    return Regions(**{name: tensor.float().contiguous() for name, tensor in tensors.items()})


def _replace_medians(regions: Regions, medians: Tensor) -> Regions:
    tensors = {name: getattr(regions, name) for name in Regions.__dataclass_fields__}
    return Regions(**{**tensors, "inverse_median": (1.0 / medians).float()})


def _pad(matrix: Tensor) -> Tensor:
    missing = -matrix.shape[1] % PAD_COLUMNS
    return torch.nn.functional.pad(matrix, (0, missing))
