"""The training loop: mini-batches of network inputs to a trained encoder. It splits, scores and measures nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.encoder import Encoder, make_encoder
from models.errors import CollapseError
from models.loss import class_distances, rate, relevance_loss, separation_hinge
from models.values import DetectorConfig, Progress

BATCH_ROWS = 128
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-4
#: lambda = 1 / (beta - 1): how much compactness weighs against relevance.
RATE_WEIGHT = 0.3
#: Weight of the hinge that keeps class centres apart, and its margin in nats (centres 8 sigma apart).
HINGE_WEIGHT = 0.1
HINGE_MARGIN = 32.0
#: Standard deviation of the initial class centres.
CENTRE_SCALE = 1.0
#: Small files still get this many steps; METHOD's figures come from about 1 400.
MIN_STEPS = 400
#: Training ends early when the loss of an epoch has not fallen by this share for this many epochs.
MIN_IMPROVEMENT = 1e-3
PATIENCE = 6
#: Longer gradients are scaled down to this norm: one corrupt row must not throw the weights away.
MAX_GRADIENT_NORM = 5.0


@dataclass(frozen=True, slots=True)
class Fitted:
    """Outcome of the loop.

    Attributes:
        encoder: In evaluation mode, without gradients.
        centres: Class centres in z (K, Z).
        losses: Mean loss of each epoch, nats.
    """

    encoder: Encoder
    centres: Tensor
    losses: tuple[float, ...]


def optimise(
    inputs: Tensor,
    labels: Tensor,
    *,
    n_classes: int,
    config: DetectorConfig,
    generator: torch.Generator,
    progress: Progress,
) -> Fitted:
    """Train an encoder and class centres with the IB loss.

    Args:
        inputs: Network inputs (N, D).
        labels: Class index (N,), every class present.
        n_classes: K, at least 1.
        config: Encoder family, size of z, and upper bound of passes over the rows (small files: MIN_STEPS instead).
        generator: Source of all randomness.
        progress: Called after each epoch; may raise to cancel.

    Returns:
        The trained encoder.

    Raises:
        CollapseError: The loss is no longer finite.
    """
    encoder = make_encoder(config, dimension=inputs.shape[1], generator=generator)
    centres = nn.Parameter(CENTRE_SCALE * torch.randn(n_classes, config.embedding_dim, generator=generator))
    log_prior = torch.log(torch.bincount(labels, minlength=n_classes) / len(labels))
    optimiser = torch.optim.AdamW([*encoder.parameters(), centres], lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = math.ceil(len(inputs) / BATCH_ROWS)
    n_epochs = max(config.epochs, min(10 * config.epochs, math.ceil(MIN_STEPS / steps)))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, LEARNING_RATE, total_steps=n_epochs * steps, pct_start=0.1
    )
    losses: list[float] = []
    for epoch in range(n_epochs):
        total = 0.0
        for rows in torch.split(torch.randperm(len(inputs), generator=generator), BATCH_ROWS):
            optimiser.zero_grad()
            loss = batch_loss(encoder, centres, log_prior, inputs[rows], labels[rows], generator=generator)
            loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
            nn.utils.clip_grad_norm_(encoder.parameters(), MAX_GRADIENT_NORM)
            optimiser.step()
            schedule.step()
            total += loss.item() * len(rows)
        losses.append(total / len(inputs))
        _check_finite(losses)
        progress((epoch + 1) / n_epochs, f"epoch {epoch + 1} of {n_epochs}: loss {losses[-1]:.3f}")
        if _has_converged(losses):
            break
    encoder.eval().requires_grad_(requires_grad=False)
    return Fitted(encoder, centres.detach(), tuple(losses))


def batch_loss(
    encoder: Encoder,
    centres: Tensor,
    log_prior: Tensor,
    inputs: Tensor,
    labels: Tensor,
    *,
    generator: torch.Generator,
) -> Tensor:
    """CE(log pi - D(z), y) + lambda * rate + hinge for one batch, z drawn once; a scalar in nats."""
    encoding = encoder(inputs)
    distances = class_distances(encoding.sample(generator=generator), centres)
    relevance = relevance_loss(distances, labels, log_prior)
    compactness = rate(encoding.mean, encoding.log_scale, centres[labels])
    return relevance + RATE_WEIGHT * compactness + HINGE_WEIGHT * separation_hinge(centres, margin=HINGE_MARGIN)


def _check_finite(losses: list[float]) -> None:
    if not math.isfinite(losses[-1]):
        raise CollapseError(
            f"The loss became {losses[-1]} in epoch {len(losses)}; look for extreme values in the training rows.",
            epoch=len(losses),
        )


def _has_converged(losses: list[float]) -> bool:
    if len(losses) <= PATIENCE:
        return False
    best_before = min(losses[:-PATIENCE])
    return min(losses[-PATIENCE:]) > best_before - MIN_IMPROVEMENT * abs(best_before)
