"""The champion as the worker holds it: scorer, version and thresholds as arrays, swapped as one value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.api import IntArray, Scorer, Scores, ThresholdSpec, p_values


@dataclass(frozen=True, slots=True)
class Judgement:
    """Decision for each row of a batch.

    Attributes:
        flagged: Rows whose score is greater than the threshold of their nearest class, int64 (F,).
        thresholds: Threshold that judged each row, float64 (B,).
    """

    flagged: IntArray
    thresholds: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Champion:
    """One model version with one set of thresholds; immutable, so a batch is judged by exactly one of them.

    Attributes:
        model_version_id: Row of the version.
        number: Its number within the stream, for people.
        scorer: The loaded detector.
        threshold_ids: Row of each class's threshold, in the order of the classes.
        specs: The thresholds themselves, in the same order.
    """

    model_version_id: int
    number: int
    scorer: Scorer
    threshold_ids: tuple[int, ...]
    specs: tuple[ThresholdSpec, ...]

    @property
    def classes(self) -> Sequence[str]:
        """Labels of the known classes."""
        return self.scorer.card.classes

    def judge(self, scores: Scores) -> Judgement:
        """Compare scores with the thresholds of their nearest classes."""
        values = np.array([spec.value for spec in self.specs])[scores.nearest]
        return Judgement(np.flatnonzero(scores.score > values), values)

    def p_values(self, scores: Scores) -> NDArray[np.float64]:
        """Conformal p-values, float64 (B,)."""
        return p_values(scores.score, scores.nearest, self.specs)
