"""The encoder family ``mlp``: a small perceptron for rows of features."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from models.encoder import Encoder, Encoding

#: Width of the three hidden layers (METHOD, section 4: 128-128-128-32).
HIDDEN_WIDTH = 128
N_HIDDEN = 3
#: log s starts here: s = 0.37 of a class's sigma. From s = 1 the sampling noise hides the classes for the first epochs;
#: from s = 0 the rate -sum(log s) is unbounded (METHOD, section 1, traps).
INITIAL_LOG_SCALE = -1.0
#: log s is kept within these bounds, smoothly: the rate stays finite whatever the optimiser does.
LOG_SCALE_RANGE = (-6.0, 2.0)


class MlpEncoder(Encoder):
    """D-128-128-128-Z perceptron with a second head for the spread of z.

    Args:
        dimension: Number of features D.
        embedding_dim: Size of z.
        generator: Source of the initial weights; the global random state is neither read nor moved.
    """

    def __init__(self, dimension: int, embedding_dim: int, *, generator: torch.Generator) -> None:
        super().__init__()
        widths = [dimension] + [HIDDEN_WIDTH] * N_HIDDEN
        self.hidden = nn.ModuleList(
            _linear(width_in, width_out, generator) for width_in, width_out in itertools.pairwise(widths)
        )
        self.mean = _linear(HIDDEN_WIDTH, embedding_dim, generator)
        self.log_scale = _linear(HIDDEN_WIDTH, embedding_dim, generator)
        with torch.no_grad():
            self.log_scale.weight.mul_(0.1)
            self.log_scale.bias.fill_(INITIAL_LOG_SCALE)

    def forward(self, inputs: Tensor) -> Encoding:
        """Encode network inputs of shape (B, D)."""
        hidden, mean = self.layers(inputs)
        low, high = LOG_SCALE_RANGE
        centre, half = (low + high) / 2, (high - low) / 2
        log_scale = centre + half * torch.tanh((self.log_scale(hidden[-1]) - centre) / half)
        return Encoding(hidden=hidden, mean=mean, log_scale=log_scale)

    def layers(self, inputs: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """h1, h2, h3, each (B, 128), and z = f(x), (B, Z), of network inputs (B, D): what scoring needs."""
        hidden = self._hidden_layers(inputs)
        return hidden, self.mean(hidden[-1])

    def _hidden_layers(self, inputs: Tensor) -> tuple[Tensor, ...]:
        outputs: list[Tensor] = []
        for layer in self.hidden:
            inputs = torch.relu_(layer(inputs))
            outputs.append(inputs)
        return tuple(outputs)


def _linear(width_in: int, width_out: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer with He-uniform weights from ``generator`` (He et al. 2015, eq. 10), zero bias."""
    layer = nn.Linear(width_in, width_out, device="meta").to_empty(device="cpu")  # leaves the global random state alone
    bound = math.sqrt(6.0 / width_in)
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.zero_()
    return layer
