"""The Information Bottleneck loss as pure functions: distances and encodings in, nats out. No parameters, no optimiser.

min I(X;Z) - beta I(Z;Y) with the Markov chain Y-X-Z is min I(X;Z|Y) - (beta - 1) I(Z;Y) (Fischer 2020, "The conditional
entropy bottleneck"). Both terms are bounded with class models q(z|k) = N(mu_k, sigma^2 I), all of one fixed sigma:

    relevance    I(Z;Y)   >=  H(Y) + E log softmax_y(log pi - D)
    compactness  I(X;Z|Y) <=  E KL(p(z|x) || q(z|y))                                   (the rate)
    loss         CE(log pi - D, y) + lambda * rate,   lambda = 1 / (beta - 1)

in the spirit of Ando, "Deep Representation Learning with an Information-theoretic Loss" (arXiv 2111.12950).

Traps avoided: sigma is fixed, so it can neither stay at zero behind a ReLU nor shrink without bound; log s is bounded
by the encoder; the mean pairwise KL between classes, an unbounded upper bound, is not maximised.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

#: Fixed standard deviation of every class model; the unit of length of the embedding.
CLASS_SIGMA = 1.0


def class_distances(z: Tensor, centres: Tensor, *, sigma: float = CLASS_SIGMA) -> Tensor:
    """D_k(z) = |z - mu_k|^2 / (2 sigma^2), the negative log density up to a constant shared by the classes.

    Args:
        z: Embeddings (B, Z).
        centres: Class centres mu (K, Z).
        sigma: Fixed standard deviation of the class models.

    Returns:
        Distances in nats, (B, K), at least 0.

    Source:
        METHOD, section 1; Lee et al. (2020), "Multi-class data description for out-of-distribution detection", eq. 3.
    """
    squared = z.square().sum(1, keepdim=True) - 2.0 * z @ centres.T + centres.square().sum(1)
    return squared.clamp_min(0.0) / (2.0 * sigma * sigma)


def relevance_loss(distances: Tensor, labels: Tensor, log_prior: Tensor) -> Tensor:
    """Cross-entropy over negative class distances: H(Y) minus the lower bound on I(Z;Y).

    Args:
        distances: D (B, K).
        labels: Class index (B,).
        log_prior: log pi (K,).

    Returns:
        Mean over the batch, nats.
    """
    return functional.cross_entropy(log_prior - distances, labels)


def rate(mean: Tensor, log_scale: Tensor, own_centre: Tensor, *, sigma: float = CLASS_SIGMA) -> Tensor:
    """KL(p(z|x) || q(z|y)), the upper bound on I(X;Z|Y).

    KL = |f - mu_y|^2 / (2 sigma^2) + sum(s^2 / (2 sigma^2) - log(s / sigma) - 1/2). With one class and s fixed this is
    Deep SVDD.

    Args:
        mean: f(x), (B, Z).
        log_scale: log s(x), (B, Z).
        own_centre: mu_y of each row, (B, Z).
        sigma: Fixed standard deviation of the class models.

    Returns:
        Mean over the batch, nats, at least 0.
    """
    ratio = log_scale - torch.log(torch.tensor(sigma, dtype=log_scale.dtype))
    spread = 0.5 * (torch.exp(2.0 * ratio) - 1.0) - ratio
    distance = (mean - own_centre).square() / (2.0 * sigma * sigma)
    return (distance + spread).sum(1).mean()


def separation_hinge(centres: Tensor, *, margin: float, sigma: float = CLASS_SIGMA) -> Tensor:
    """Mean over pairs of classes of max(0, m - KL(k||j)): pushes centres sigma sqrt(2 m) apart and no further.

    Args:
        centres: Class centres (K, Z); K may be 1.
        margin: m, nats.
        sigma: Fixed standard deviation of the class models.

    Returns:
        A scalar, nats; 0 for one class.

    Source:
        METHOD, section 1.5: KL between Gaussians of one sigma is |mu_k - mu_j|^2 / (2 sigma^2).
    """
    n_classes = len(centres)
    if n_classes < 2:
        return centres.new_zeros(())
    pairs = torch.triu_indices(n_classes, n_classes, offset=1)
    divergence = (centres[pairs[0]] - centres[pairs[1]]).square().sum(1) / (2.0 * sigma * sigma)
    return functional.relu(margin - divergence).mean()


def information_between_classes(centres: Tensor, log_prior: Tensor, *, sigma: float = CLASS_SIGMA) -> Tensor:
    """Lower bound on I(Z;Y) from the class models alone, for the training report.

    -sum_k pi_k log sum_j pi_j exp(-BD_kj), with the Bhattacharyya distance BD = |mu_k - mu_j|^2 / (8 sigma^2).

    Args:
        centres: Class centres (K, Z).
        log_prior: log pi (K,).
        sigma: Fixed standard deviation of the class models.

    Returns:
        A scalar, nats, in [0, H(Y)].

    Source:
        Kolchinsky and Tracey (2017), "Estimating mixture entropy with pairwise distances", eq. 10.
    """
    bhattacharyya = class_distances(centres, centres, sigma=sigma) / 4.0
    return -(log_prior.exp() * torch.logsumexp(log_prior - bhattacharyya, dim=1)).sum()
