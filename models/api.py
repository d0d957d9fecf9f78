"""What the service sees of the science: values and protocols with numpy at the border. Not an implementation.

Importing this module imports no torch; the functions that need it import it when called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from models.gate import GateFigures

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


def use_threads(n_threads: int) -> None:
    """Let matrix products of this process use so many threads; for small networks one is nearly always the fastest.

    More only wait for each other where cores are shared, and scores are the same with any number.
    """
    import torch  # noqa: PLC0415 - only when it is needed

    torch.set_num_threads(n_threads)


def fit(
    x: FloatArray, y: NDArray[np.str_] | None, *, config: DetectorConfig, seed: int, progress: Progress | None = None
) -> Trained:
    """Train and calibrate a detector.

    Called by the training process and the command line; blocks for seconds to a minute, uses no global random state,
    gives the same result for the same rows and seed. Rows are split within each class: 70 % train, 20 % calibrate, 10 %
    measure.

    Args:
        x: Rows (N, D), numbers; rows with NaN or infinity are dropped and counted in ``card.report["notes"]``.
        y: Labels (N,), ``""`` where unknown (those rows are left out and noted); None, or all unknown: one class.
        config: How to build it.
        seed: Seed of everything random.
        progress: Called with fraction and line; may raise to cancel.

    Returns:
        The scorer, with its card, and one threshold per class.

    Raises:
        models.errors.TrainingDataError: The rows cannot be learned from; the message says what to bring.
        models.errors.CollapseError: Training ended in an encoder that tells nothing apart.
    """
    from models import training  # noqa: PLC0415 - torch only when it is needed

    return training.fit(x, y, config=config, seed=seed, progress=progress)


def save(trained: Trained | Scorer, folder: Path) -> str:
    """Write a detector to a new folder, whole or not at all; returns its SHA-256. See ``models.artifact.save``.

    Raises:
        models.errors.ArtifactError: The folder exists, or the disk refuses.
    """
    from models import artifact  # noqa: PLC0415 - torch only when it is needed

    return artifact.save(trained, folder)


def load(folder: Path, *, sha256: str) -> Scorer:
    """Read and verify a detector; scores are bit-identical to those of the one saved. See ``models.artifact.load``.

    Raises:
        models.errors.ArtifactError: Missing, changed, too new or malformed.
    """
    from models import artifact  # noqa: PLC0415 - torch only when it is needed

    return artifact.load(folder, sha256=sha256)


def calibrate(
    scores: FloatArray, nearest: IntArray, *, classes: Sequence[str], alpha: float
) -> tuple[ThresholdSpec, ...]:
    """One threshold per class from scores of normal rows; needs no torch. See ``models.thresholds.calibrate``.

    Raises:
        models.errors.CalibrationError: No scores, scores that are not finite, or a rate out of range.
    """
    from models import thresholds  # noqa: PLC0415 - it imports this module

    return thresholds.calibrate(scores, nearest, classes=classes, alpha=alpha)


def p_values(scores: FloatArray, nearest: IntArray, specs: Sequence[ThresholdSpec]) -> NDArray[np.float64]:
    """Conformal p-values (B,): p <= alpha exactly when score > value; needs no torch.

    See ``models.thresholds.p_values``.
    """
    from models import thresholds  # noqa: PLC0415 - it imports this module

    return thresholds.p_values(scores, nearest, specs)


def evaluate(
    x: FloatArray,
    y: NDArray[np.str_],
    *,
    config: DetectorConfig,
    held_out: Sequence[str] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    dataset: str = "",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Leave-one-class-out: what would it catch? The JSON of ``narrows evaluate``. See ``models.evaluation.evaluate``.

    Raises:
        models.errors.EvaluationError: Fewer than two classes, or one that is not there.
        models.errors.TrainingDataError: The rows cannot be learned from.
    """
    from models import evaluation  # noqa: PLC0415 - torch only when it is needed

    return evaluation.evaluate(x, y, config=config, held_out=held_out, seeds=seeds, dataset=dataset, progress=progress)


def measure_gate(
    scorer: Scorer, thresholds: Sequence[ThresholdSpec], x: FloatArray, labels: NDArray[np.str_]
) -> GateFigures:
    """Figures of one version on recent labelled rows, for ``models.gate.decide``. See ``models.gate.measure``.

    Raises:
        models.errors.ScoringInputError: Rows it cannot score, or a scorer that this program did not train.
    """
    from models import gate  # noqa: PLC0415 - torch only when it is needed
    from models.errors import ScoringInputError  # noqa: PLC0415 - beside its only use
    from models.scorer import RegionScorer  # noqa: PLC0415 - torch only when it is needed

    if not isinstance(scorer, RegionScorer):
        raise ScoringInputError(f"A {type(scorer).__name__} cannot be measured; only detectors of this program can.")
    return gate.measure(scorer, thresholds, x, labels)
