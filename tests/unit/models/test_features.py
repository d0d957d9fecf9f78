"""The standardiser on constant columns, huge ranges and tiny inputs."""

from __future__ import annotations

import math

import numpy as np
import torch

from models.features import fit_standardiser, signed_log1p


def test_signed_log1p_is_odd_and_logarithmic() -> None:
    """sign(x) log(1 + |x|)."""
    result = signed_log1p(torch.tensor([0.0, math.e - 1, 1 - math.e]))
    assert torch.allclose(result, torch.tensor([0.0, 1.0, -1.0]))


def test_standardiser_divides_by_the_deviation() -> None:
    """Rows 0 and 2: mean 1, deviation 1; 3 becomes log(1 + 2)."""
    standardise = fit_standardiser(np.array([[0.0], [2.0]], dtype=np.float32))
    assert math.isclose(standardise(torch.tensor([[3.0]])).item(), math.log(3), rel_tol=1e-6)


def test_standardiser_keeps_a_constant_column_alive() -> None:
    """A sensor that was stuck in training still moves the input later."""
    standardise = fit_standardiser(np.full((5, 1), 7.0, dtype=np.float32))
    assert standardise(torch.tensor([[7.0]])).item() == 0.0
    assert standardise(torch.tensor([[8.0]])).item() > 0.5


def test_standardiser_is_finite_when_values_are_the_largest_there_are() -> None:
    """No overflow, neither in fitting nor in use, for tiny and huge scales."""
    huge = np.finfo(np.float32).max
    rows = np.array([[huge, 1e-38, 1.0], [-huge, 2e-38, 1.0]], dtype=np.float32)
    standardise = fit_standardiser(rows)
    result = standardise(torch.tensor([[huge, huge, huge], [-huge, -huge, 0.0]]))
    assert torch.isfinite(result).all()
    assert torch.isfinite(standardise.scale).all()
