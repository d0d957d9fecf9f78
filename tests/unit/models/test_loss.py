"""The loss's terms against values worked out by hand."""

from __future__ import annotations

import math

import torch

from models.loss import class_distances, information_between_classes, rate, relevance_loss, separation_hinge


def test_class_distances_are_half_the_squared_length() -> None:
    """|(3, 4)|^2 / 2 = 12.5 at sigma 1, 3.125 at sigma 2."""
    z, centres = torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2)
    assert class_distances(z, centres).item() == 12.5
    assert class_distances(z, centres, sigma=2.0).item() == 3.125


def test_relevance_loss_is_log_2_when_two_classes_are_equally_far() -> None:
    """A coin toss costs log 2 nats."""
    loss = relevance_loss(torch.ones(4, 2), torch.tensor([0, 1, 0, 1]), torch.log(torch.tensor([0.5, 0.5])))
    assert math.isclose(loss.item(), math.log(2), rel_tol=1e-6)


def test_rate_is_zero_when_the_encoder_equals_the_class_model() -> None:
    """KL(q || q) = 0."""
    assert rate(torch.ones(3, 2), torch.zeros(3, 2), torch.ones(3, 2)).item() == 0.0


def test_rate_is_the_distance_when_only_the_mean_differs() -> None:
    """KL between unit Gaussians is half the squared distance: 2 nats."""
    assert rate(torch.full((5, 1), 2.0), torch.zeros(5, 1), torch.zeros(5, 1)).item() == 2.0


def test_rate_agrees_with_torch_when_everything_differs() -> None:
    """Against torch.distributions, sigma 1.5."""
    generator = torch.Generator().manual_seed(0)
    mean, log_scale, centre = (torch.randn(6, 4, generator=generator) for _ in range(3))
    p = torch.distributions.Normal(mean, log_scale.exp())
    q = torch.distributions.Normal(centre, torch.full_like(centre, 1.5))
    expected = torch.distributions.kl_divergence(p, q).sum(1).mean()
    assert torch.isclose(rate(mean, log_scale, centre, sigma=1.5), expected, rtol=1e-5)


def test_separation_hinge_is_zero_when_one_class_or_far_apart() -> None:
    """Centres 4 apart: KL = 8 nats."""
    centres = torch.tensor([[0.0], [4.0]])
    assert separation_hinge(centres[:1], margin=5.0).item() == 0.0
    assert separation_hinge(centres, margin=8.0).item() == 0.0
    assert separation_hinge(centres, margin=10.0).item() == 2.0


def test_information_between_classes_lies_between_zero_and_the_entropy() -> None:
    """Coinciding centres tell nothing; distant ones tell the class."""
    prior = torch.log(torch.full((2,), 0.5))
    assert abs(information_between_classes(torch.zeros(2, 3), prior).item()) < 1e-6
    far = torch.tensor([[0.0], [100.0]])
    assert math.isclose(information_between_classes(far, prior).item(), math.log(2), rel_tol=1e-6)
