"""What the demo found, held against what it knows to be true. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Scoreboard:
    """Counts on the stream.

    Attributes:
        n_records: Records streamed.
        n_unseen: Of the unseen digit.
        caught: Of those, flagged.
        false_alarms: Known digits that were flagged.
    """

    n_records: int
    n_unseen: int
    caught: int
    false_alarms: int

    @property
    def precision(self) -> float:
        """Share of the flagged that are of the unseen digit; 0 where nothing was flagged."""
        flagged = self.caught + self.false_alarms
        return self.caught / flagged if flagged else 0.0

    @property
    def recall(self) -> float:
        """Share of the unseen digit that was flagged."""
        return self.caught / self.n_unseen if self.n_unseen else 0.0

    @property
    def false_alarm_rate(self) -> float:
        """Share of the known digits that was flagged."""
        known = self.n_records - self.n_unseen
        return self.false_alarms / known if known else 0.0


def score(flagged: Iterable[int], *, truth: NDArray[np.int64], unseen: int) -> Scoreboard:
    """Count.

    Args:
        flagged: Indices of the flagged records.
        truth: Digit of every record streamed.
        unseen: The digit that was left out of training.
    """
    found = set(flagged)
    odd = set(np.flatnonzero(truth == unseen).tolist())
    return Scoreboard(len(truth), len(odd), len(found & odd), len(found - odd))
