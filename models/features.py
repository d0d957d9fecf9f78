"""Raw feature rows to network inputs: standardise on the training rows, then signed log1p. It learns no labels.

Source: METHOD, section 2 (the squash gains 0.4 to 0.6 AUROC points for every loss).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Standardised values are clipped here: far outside any training row, yet no square of it overflows float32.
MAX_STANDARDISED = 1e6
#: Raw values are clipped here first, so that subtracting a mean cannot overflow float32 (its largest is 3.4e38).
MAX_RAW = 8e37
#: A column whose standard deviation is below this share of its largest magnitude is constant up to rounding.
CONSTANT_BELOW = 1e-7


def signed_log1p(x: Tensor) -> Tensor:
    """``sign(x) log(1 + |x|)``: linear near zero, logarithmic in the tails; odd and monotone.

    Args:
        x: Any shape.

    Returns:
        Tensor of the same shape and dtype.
    """
    return x.abs().log1p_().copysign_(x)


@dataclass(frozen=True, slots=True)
class Standardiser:
    """Column means and scales of the training rows.

    Attributes:
        mean: float32 (D,), finite.
        scale: Reciprocal of the standard deviation, float32 (D,), finite and positive; 1 for a constant column,
            so that a sensor that was stuck in training and moves later still changes the input.
    """

    mean: Tensor
    scale: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Network inputs of raw rows.

        Args:
            x: Finite rows, float32 (B, D).

        Returns:
            Signed log1p of the standardised rows, finite, float32 (B, D).
        """
        centred = x.clamp(-MAX_RAW, MAX_RAW).sub_(self.mean)
        return signed_log1p(centred.mul_(self.scale).clamp_(-MAX_STANDARDISED, MAX_STANDARDISED))


def fit_standardiser(x: NDArray[np.float32]) -> Standardiser:
    """Standardiser of training rows; safe for constant columns and for magnitudes up to float32's largest.

    Args:
        x: Finite training rows, float32 (N, D), N >= 1.

    Returns:
        The column means and scales, computed in float64.
    """
    rows = np.clip(x.astype(np.float64), -MAX_RAW, MAX_RAW)
    mean = rows.mean(axis=0)
    spread = rows.std(axis=0)
    constant = spread <= CONSTANT_BELOW * np.maximum(np.abs(rows).max(axis=0), np.finfo(np.float32).tiny)
    scale = np.where(constant, 1.0, 1.0 / np.where(constant, 1.0, spread))
    tiny, huge = 1e-37, 1e37  # inside float32's normal range: a denormal scale would be flushed to zero
    return Standardiser(
        mean=torch.from_numpy(mean.astype(np.float32)),
        scale=torch.from_numpy(np.clip(scale, tiny, huge).astype(np.float32)),
    )
