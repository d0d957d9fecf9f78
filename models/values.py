"""The values that the science takes and gives, numpy at the border. No behaviour, and nothing of ours is imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64] | NDArray[np.float32]
IntArray = NDArray[np.int64]

#: Called with (fraction done in [0, 1], one line for people); may raise to cancel.
Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class DetectorConfig:
    """How a detector is built; every field has a default that needs no tuning.

    Attributes:
        encoder: Encoder family; ``"mlp"`` (others arrive behind the same name).
        profile: ``"full"`` (best detection) or ``"fast"`` (cheapest score, for the highest rates).
        embedding_dim: Size of the embedding z.
        false_alarm_rate: Target share of normal records that is flagged, a fraction in (0, 0.5).
        epochs: Upper bound of passes over the training rows.
    """

    encoder: str = "mlp"
    profile: str = "full"
    embedding_dim: int = 32
    false_alarm_rate: float = 0.01
    epochs: int = 22


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of a batch, row by row.

    Attributes:
        score: Anomaly score, float64 (B,); finite, greater than zero, higher is more anomalous.
        nearest: Index into ``ModelCard.classes`` of the nearest class region, int64 (B,).
    """

    score: NDArray[np.float64]
    nearest: IntArray


@dataclass(frozen=True, slots=True)
class ThresholdSpec:
    """Calibrated threshold of one class.

    Attributes:
        class_label: Label of the class.
        value: A record whose nearest class is this one is flagged when its score is greater.
        alpha: False-alarm rate that ``value`` keeps: the one asked for, unless ``method`` is
            ``"conformal-pooled-smallest"``.
        n_calibration: Number of calibration scores behind ``value``.
        method: ``"conformal"`` (the class's own scores), ``"conformal-pooled"`` (too few; all classes together) or
            ``"conformal-pooled-smallest"`` (too few even together; ``alpha`` is the smallest rate that they reach).
        calibration_scores: Sorted calibration scores float64 (m,), m <= 2000, from which p-values are computed; a
            subsample by fixed ranks where there are more.
    """

    class_label: str
    value: float
    alpha: float
    n_calibration: int
    method: str
    calibration_scores: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What is known about a trained encoder; stored as JSON beside the weights.

    Attributes:
        format_version: Version of the artifact format; a newer one is refused.
        classes: Labels of the known classes, in the order of ``Scores.nearest``.
        dimension: Number of features.
        config: How it was built.
        seed: Seed of the training run.
        n_train: Training rows.
        n_calibration: Calibration rows.
        metrics: Figures measured on held-out rows of the training run (accuracy, false-alarm rate, collapse checks,
            ...).
        report: Losses by epoch, seconds and other notes of the run.
    """

    format_version: int
    classes: tuple[str, ...]
    dimension: int
    config: DetectorConfig
    seed: int
    n_train: int
    n_calibration: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)


class Scorer(Protocol):
    """A trained detector that is ready to serve. Thread-safe, deterministic, free of I/O.

    A row's score does not depend on the batch it comes in.
    """

    @property
    def card(self) -> ModelCard:
        """What is known about this version."""
        ...

    def score(self, x: FloatArray) -> Scores:
        """Score rows of shape (B, D); B may be 0."""
        ...

    def explain(self, x: FloatArray, nearest: IntArray) -> NDArray[np.float64]:
        """Contribution of each feature to the score, float64 (B, D).

        Rows sum to the score's excess over the class's own.
        """
        ...


@dataclass(frozen=True, slots=True)
class Trained:
    """Result of a training run: the detector and its first thresholds, one per class in the order of the card."""

    scorer: Scorer
    thresholds: tuple[ThresholdSpec, ...]
