"""What an encoder is, and the families by name: the place to add one. It knows no classes, no loss and no score."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from models.values import DetectorConfig


@dataclass(frozen=True, slots=True)
class Encoding:
    """What the encoder p(z|x) = N(f(x), diag s(x)^2) says about a batch.

    Attributes:
        hidden: Hidden layers h1, h2, h3 after their activation, each (B, width).
        mean: f(x), the embedding z used for scoring, (B, Z).
        log_scale: log s(x), (B, Z).
    """

    hidden: tuple[Tensor, ...]
    mean: Tensor
    log_scale: Tensor

    def sample(self, *, generator: torch.Generator) -> Tensor:
        """One reparametrised draw z = f + s * eps, (B, Z)."""
        noise = torch.randn(self.mean.shape, generator=generator, dtype=self.mean.dtype)
        return self.mean + self.log_scale.exp() * noise


class Encoder(nn.Module):
    """A stochastic encoder. Its weights come from the generator it is made with, so a seed gives the same encoder.

    A row must take one path through the matrix products whatever its neighbours: see
    tests/property/models/test_batch_independence.py.
    """

    @abstractmethod
    def forward(self, inputs: Tensor) -> Encoding:
        """Encode network inputs (B, D), for training."""

    @abstractmethod
    def layers(self, inputs: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Three hidden layers and z = f(x), (B, Z), of network inputs (B, D), for scoring."""


def families() -> Mapping[str, Callable[[int, DetectorConfig, torch.Generator], Encoder]]:
    """Encoder families by the name in ``DetectorConfig.encoder``: features D, config, source of the weights."""
    from models.mlp import MlpEncoder  # noqa: PLC0415 - it builds on this module

    return MappingProxyType(
        {"mlp": lambda dimension, config, generator: MlpEncoder(dimension, config.embedding_dim, generator=generator)}
    )


def make_encoder(config: DetectorConfig, *, dimension: int, generator: torch.Generator) -> Encoder:
    """An untrained encoder of the family that the configuration names.

    Raises:
        KeyError: There is no such family; ``training`` has refused it by then.
    """
    return families()[config.encoder](dimension, config, generator)
