"""Class regions and the class model against formulas written out."""

from __future__ import annotations

import pytest
import torch

from models.class_model import class_model
from models.loss import class_distances
from models.regions import MAX_DISTANCE, PAD_COLUMNS, RIDGE, fit_regions


def _rows(n_rows: int = 200, dim: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n_rows) % 2
    return torch.randn(n_rows, dim, generator=generator) * 2 + 4 * labels[:, None], labels


def test_distance_is_mahalanobis_over_its_median_when_all_directions_are_kept() -> None:
    """S_k from its definition, inverted by torch."""
    layers, labels = _rows()
    regions = fit_regions(layers, labels, n_classes=2)
    scaled = layers.double() / layers.double().std(0, correction=0)
    means = torch.stack([scaled[labels == k].mean(0) for k in (0, 1)])
    residual = scaled - means[labels]
    pooled, own = residual.T @ residual / 200, residual[labels == 1].T @ residual[labels == 1] / 100
    weight = 100 / (100 + 5 / 2)
    shrunk = weight * own + (1 - weight) * pooled + RIDGE * pooled.trace() / 5 * torch.eye(5, dtype=torch.float64)
    offset = scaled - means[1]
    expected = (offset @ torch.linalg.inv(shrunk) * offset).sum(1)
    expected = expected / expected[labels == 1].median()
    found = regions.distance(layers * regions.scale, 1)
    assert torch.allclose(found.double(), expected, rtol=1e-4, atol=1e-5)
    assert regions.whitening.shape == (2, 5, PAD_COLUMNS)


def test_distance_keeps_the_narrowest_directions_when_not_all() -> None:
    """Two classes that vary along unit 0 and hardly along unit 1: one direction left sees unit 1 only."""
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(100, generator=generator)
    layers = torch.stack([wide, 0.1 * torch.randn(100, generator=generator) + 0.995 * wide], dim=1)
    regions = fit_regions(layers, torch.zeros(100, dtype=torch.long), n_classes=1, directions=1)
    along, across = layers[:1] + 3.0, layers[:1] + torch.tensor([1.0, -1.0])
    assert regions.distance(across * regions.scale, 0) > 20 * regions.distance(along * regions.scale, 0)


def test_distance_is_finite_when_a_unit_was_dead_and_wakes() -> None:
    """Zero variance in training, then the largest value."""
    layers, labels = _rows()
    layers[:, 2] = 0.0
    regions = fit_regions(layers, labels, n_classes=2)
    assert torch.isfinite(regions.distance(layers * regions.scale, 0)).all()
    awake = layers[:1].clone()
    awake[0, 2] = 1e25
    assert regions.distance(awake * regions.scale, 0).item() == pytest.approx(MAX_DISTANCE)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_class_model_orders_classes_as_the_loss_does(length: int) -> None:
    """The shared part |z|^2 / 2 and the padding change nothing."""
    generator = torch.Generator().manual_seed(0)
    centres, z = torch.randn(5, 8, generator=generator), torch.randn(50, 8, generator=generator)
    expected = class_distances(z, centres).argsort(1)[:, :length]
    assert torch.equal(class_model(centres).nearest(z, length=length), expected)
