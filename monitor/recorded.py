"""Rows of recorded history as arrays, whatever file they came from. No reading here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """Rows of a data file.

    Attributes:
        x: Features, float32 (n, D), finite.
        labels: Class of each row, strings (n,); empty where the row has none.
        t: Time of each row, float64 (n,), as the file has it (epoch seconds where it was a date); None without one.
        name: Name of the file.
    """

    x: NDArray[np.float32]
    labels: NDArray[np.str_]
    t: NDArray[np.float64] | None
    name: str

    def __len__(self) -> int:
        return len(self.x)

    @property
    def dimension(self) -> int:
        """Number of features."""
        return int(self.x.shape[1])

    @property
    def classes(self) -> tuple[str, ...]:
        """Labels that occur, numbers in the order of numbers."""
        return tuple(sorted({str(label) for label in self.labels} - {""}, key=_label_order))


def _label_order(label: str) -> tuple[bool, float, str]:
    try:
        return False, float(label), label
    except ValueError:
        return True, 0.0, label


def labels_of(values: NDArray[np.generic]) -> NDArray[np.str_]:
    """Labels as text: whole numbers without a fraction, NaN and None as no label."""
    if np.issubdtype(values.dtype, np.floating):
        return np.array([_number_label(float(value)) for value in values.ravel()], dtype=np.str_).reshape(values.shape)
    return values.astype(np.str_)


def _number_label(value: float) -> str:
    if np.isnan(value):
        return ""
    return str(int(value)) if value.is_integer() else str(value)
