"""The class model q(z|k) = N(mu_k, I) of the loss, at serving time: which classes are nearest. It scores nothing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.regions import PAD_COLUMNS


@dataclass(frozen=True, slots=True)
class ClassModel:
    """Class centres, laid out for one matrix product.

    Attributes:
        weight: -mu, padded with zero columns, float32 (Z, K*).
        bias: |mu_k|^2 / 2, zero where padded, float32 (K*,).
        n_classes: K.
    """

    weight: Tensor
    bias: Tensor
    n_classes: int

    def nearest(self, embedding: Tensor, *, length: int) -> Tensor:
        """Indices of the nearest classes, nearest first, (B, length).

        By D_k(z) less its part |z|^2 / 2 that all share.
        """
        distances = torch.addmm(self.bias, embedding, self.weight)[:, : self.n_classes]
        if length == 1:
            return distances.argmin(1, keepdim=True)
        return distances.topk(length, dim=1, largest=False, sorted=True).indices


def class_model(centres: Tensor) -> ClassModel:
    """Class model of the centres mu (K, Z), all of sigma 1."""
    n_classes = len(centres)
    missing = -n_classes % PAD_COLUMNS
    weight = torch.nn.functional.pad(-centres.T, (0, missing)).contiguous()
    bias = torch.nn.functional.pad(centres.square().sum(1) / 2.0, (0, missing))
    return ClassModel(weight.float(), bias.float(), n_classes)
