"""What the service sees of the science: the values, and functions on them. Not an implementation.

Importing this module imports no torch; the functions that need it import it when called.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.values import (
    DetectorConfig,
    FloatArray,
    IntArray,
    ModelCard,
    Progress,
    Scorer,
    Scores,
    ThresholdSpec,
    Trained,
)

if TYPE_CHECKING:
    from models.gate import GateFigures

__all__ = [
    "DetectorConfig",
    "FloatArray",
    "IntArray",
    "ModelCard",
    "Progress",
    "Scorer",
    "Scores",
    "ThresholdSpec",
    "Trained",
    "calibrate",
    "evaluate",
    "fit",
    "load",
    "measure_gate",
    "p_values",
    "save",
    "use_threads",
]


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
