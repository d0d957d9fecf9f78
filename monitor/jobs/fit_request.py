"""The files through which a training process is asked and answers. What runs in it is ``models.fit_process``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.api import DetectorConfig, ThresholdSpec
from models.errors import CollapseError
from monitor.errors import NarrowsError

REQUEST = "REQUEST.json"
RESULT = "RESULT.json"
_ROWS = "rows.npz"
_OUTPUT = "artifact"
#: Serving goes first wherever a worker shares the machine.
_NICE = 10


class TrainingFailed(NarrowsError):  # noqa: N818 - an outcome
    """The training process failed; its own message says why."""


class CandidateUnfit(NarrowsError):  # noqa: N818 - an outcome
    """Training ended in an encoder that tells nothing apart, so there is no version to judge."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Arrays of one training run: to train on (x, y) and to judge by (x_gate, labels_gate)."""

    x: NDArray[np.float32]
    y: NDArray[np.str_]
    x_gate: NDArray[np.float32]
    labels_gate: NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class ChampionFiles:
    """The version in service, as the training process needs it for the comparison."""

    folder: Path
    sha256: str
    thresholds: Sequence[ThresholdSpec]


@dataclass(frozen=True, slots=True)
class FitResult:
    """What the training process answered.

    Attributes:
        folder: The candidate's artifact.
        sha256: Its digest.
        thresholds: Its first thresholds, in the order of ``card["classes"]``.
        card: Its card as JSON.
        candidate: Its figures on the gate rows.
        champion: The champion's figures on the same rows, where there is one.
        seconds: Time of the training.
    """

    folder: Path
    sha256: str
    thresholds: tuple[ThresholdSpec, ...]
    card: Mapping[str, Any]
    candidate: Mapping[str, float]
    champion: Mapping[str, float] | None
    seconds: float


def write_request(
    folder: Path, rows: Rows, *, config: DetectorConfig, seed: int, champion: ChampionFiles | None
) -> Path:
    """Put the rows and the request into an empty folder.

    Returns:
        The request, the one argument of the training process.
    """
    np.savez(folder / _ROWS, x=rows.x, y=rows.y, x_gate=rows.x_gate, labels_gate=rows.labels_gate)
    request = {
        "rows": str(folder / _ROWS),
        "config": asdict(config),
        "seed": seed,
        "output": str(folder / _OUTPUT),
        "result": str(folder / RESULT),
        "champion": None if champion is None else _champion(champion),
        "nice": _NICE,
    }
    path = folder / REQUEST
    path.write_text(json.dumps(request), encoding="utf-8")
    return path


def read_result(folder: Path, *, status: int, stderr_tail: str) -> FitResult:
    """The answer.

    Args:
        folder: The folder of the request.
        status: Exit status of the process.
        stderr_tail: End of its stderr, for when it left no answer.

    Raises:
        CandidateUnfit: The encoder collapsed.
        TrainingFailed: It says why, or it left no answer.
    """
    path = folder / RESULT
    if not path.is_file():
        last = stderr_tail.strip().splitlines()[-1:] or ["it said nothing"]
        raise TrainingFailed(f"the training process ended with status {status} and without an answer: {last[0]}")
    result = json.loads(path.read_text(encoding="utf-8"))
    if "error" in result:
        unfit = result["error"]["type"] == CollapseError.__name__
        raise (CandidateUnfit if unfit else TrainingFailed)(str(result["error"]["message"]))
    return FitResult(
        folder=folder / _OUTPUT,
        sha256=str(result["sha256"]),
        thresholds=tuple(_threshold(spec) for spec in result["thresholds"]),
        card=result["card"],
        candidate=_numbers(result["candidate"]),
        champion=None if result["champion"] is None else _numbers(result["champion"]),
        seconds=float(result["seconds"]),
    )


def progress_of(line: str) -> tuple[float, str] | None:
    """Fraction and words of a progress line; None for a line that is none."""
    try:
        parsed = json.loads(line)
        return float(parsed["progress"]), str(parsed["message"])
    except (ValueError, KeyError, TypeError):
        return None


def _champion(champion: ChampionFiles) -> dict[str, Any]:
    return {
        "folder": str(champion.folder),
        "sha256": champion.sha256,
        "thresholds": [
            {"class_label": spec.class_label, "value": spec.value, "alpha": spec.alpha} for spec in champion.thresholds
        ],
    }


def _numbers(figures: Mapping[str, Any]) -> dict[str, float]:
    """Figures with NaN again where JSON, which has none, says null."""
    return {name: math.nan if value is None else value for name, value in figures.items()}


def _threshold(spec: Mapping[str, Any]) -> ThresholdSpec:
    scores = np.array(spec["calibration_scores"], dtype=np.float64)
    return ThresholdSpec(**{**spec, "calibration_scores": scores})
