"""Which samples may calibrate, and what is known of them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.api import IntArray

#: Verdicts that make a record normal, and those that make it none; "expected" is an anomaly that somebody announced.
NORMAL_VERDICTS = frozenset({"not_anomaly", "new_normal"})
ANOMALY_VERDICTS = frozenset({"anomaly", "expected"})


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Kept samples, rescored by the champion; flagged ones included.

    Attributes:
        score: Scores, float64 (n,).
        nearest: Nearest class, an index into the champion's classes, (n,).
        known: Rows with a label of a known class, bool (n,).
        vouched: Rows that are surely normal: known, or with an analyst's word, bool (n,).
    """

    score: NDArray[np.float64]
    nearest: IntArray
    known: NDArray[np.bool_]
    vouched: NDArray[np.bool_]

    def of(self, rows: NDArray[np.bool_]) -> Evidence:
        """The rows of a mask."""
        return Evidence(self.score[rows], self.nearest[rows], self.known[rows], self.vouched[rows])

    def __len__(self) -> int:
        return len(self.score)


def trustworthy(
    labels: Sequence[str | None], verdicts: Sequence[str | None], *, classes: Sequence[str]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Which rows may calibrate: (usable, known, vouched), each bool (n,).

    Not usable is a row that somebody called an anomaly: by verdict, or by a label that is no known class.
    """
    known_labels = frozenset(classes)
    known = np.array([label in known_labels for label in labels], dtype=bool)
    normal = np.array([verdict in NORMAL_VERDICTS for verdict in verdicts], dtype=bool)
    foreign = np.array([label is not None for label in labels], dtype=bool) & ~known & ~normal
    condemned = np.array([verdict in ANOMALY_VERDICTS for verdict in verdicts], dtype=bool)
    return ~(foreign | condemned), known, known | normal
