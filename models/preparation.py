"""Raw training rows to clean, labelled, split rows, with notes on everything left out. It trains nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.errors import TrainingDataError
from models.values import FloatArray, IntArray

#: Fewest usable rows in all: below this, nothing that is measured means anything.
MIN_ROWS = 20
#: Fewest rows of a class that gets a region of its own: one each for training, calibration and held-out figures.
MIN_CLASS_ROWS = 3
#: More rows than this share with NaN or infinity mean a broken file, not a few broken sensors.
MAX_BROKEN_SHARE = 0.2
#: Share of each class that calibrates the thresholds, and that the card's figures are measured on.
CALIBRATION_SHARE = 0.2
HELD_OUT_SHARE = 0.1
#: Rows of each class that are kept when a large file is sampled down.
KEPT_OF_EACH_CLASS = 20
#: Label of the one class when there are no labels.
ONE_CLASS = "normal"


@dataclass(frozen=True, slots=True)
class LabelledRows:
    """Clean rows with a class each.

    Attributes:
        x: Finite rows, float32 (N, D).
        labels: Index into ``classes``, int64 (N,).
        classes: Labels of the classes, sorted.
        notes: What was left out or assumed, one sentence each, for the training report.
    """

    x: NDArray[np.float32]
    labels: IntArray
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def take(self, rows: IntArray) -> LabelledRows:
        """The rows at these positions."""
        return replace(self, x=self.x[rows], labels=self.labels[rows])


def prepare(x: FloatArray, y: NDArray[np.str_] | None) -> LabelledRows:
    """Clean rows for training.

    Rows with NaN or infinity are dropped and counted; so are rows without a label where others have one (they are not
    used yet), and classes of fewer than 3 rows. Without any label all rows form one class.

    Args:
        x: Rows (N, D).
        y: Labels (N,), ``""`` where unknown; None when there are none.

    Returns:
        The rows that are left, with a note on each kind of loss.

    Raises:
        TrainingDataError: Wrong shapes, too many broken rows, or too few rows left.
    """
    _check_shapes(x, y)
    rows, names, notes = _drop_broken(x, None if y is None else np.asarray(y).astype(np.str_))
    rows, names, label_notes = _settle_labels(rows, names)
    _check_enough(rows)
    rows, names, rare_notes = _drop_rare(rows, names)
    _check_enough(rows)
    classes, labels = np.unique(names, return_inverse=True)
    notes = (*notes, *label_notes, *rare_notes, *_constant_notes(rows))
    return LabelledRows(rows, labels.astype(np.int64), tuple(str(name) for name in classes), notes)


def split_indices(
    labels: IntArray, *, shares: tuple[float, ...], generator: np.random.Generator
) -> tuple[IntArray, ...]:
    """Stratified random split; every class has at least one row in the first part, then in the second, and so on.

    Args:
        labels: Class index (N,).
        shares: Share of each part after the first, which takes the rest.
        generator: Source of the permutation.

    Returns:
        Positions of each part, the first one first; each sorted.
    """
    parts: list[list[IntArray]] = [[] for _ in range(len(shares) + 1)]
    for index in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == index))
        start = 0
        for part, share in enumerate(shares, start=1):
            # Leave one row for the first part and for each part that is still to come before this one is rounded up.
            count = min(max(1, round(share * len(rows))), max(0, len(rows) - start - 1))
            parts[part].append(rows[start : start + count])
            start += count
        parts[0].append(rows[start:])
    return tuple(np.sort(np.concatenate(part)).astype(np.int64) for part in parts)


def cap_rows(labels: IntArray, *, limit: int, generator: np.random.Generator) -> IntArray:
    """Positions of about ``limit`` random rows, sorted; the first 20 of every class are always among them.

    A rare class that a plain sample loses would have no region.
    """
    if len(labels) <= limit:
        return np.arange(len(labels), dtype=np.int64)
    rows = generator.permutation(len(labels))
    kept = [rows[:limit], *(rows[labels[rows] == index][:KEPT_OF_EACH_CLASS] for index in np.unique(labels))]
    return np.unique(np.concatenate(kept)).astype(np.int64)


def _check_shapes(x: FloatArray, y: NDArray[np.str_] | None) -> None:
    if x.ndim != 2 or not x.shape[1]:
        raise TrainingDataError(f"Training rows must be a matrix (rows, features), not an array of shape {x.shape}.")
    if not np.issubdtype(x.dtype, np.number):
        raise TrainingDataError(f"Features must be numbers, not {x.dtype}; encode categories before training.")
    if y is not None and len(y) != len(x):
        raise TrainingDataError(f"There are {len(x)} rows but {len(y)} labels; the file is cut or misaligned.")


def _check_enough(rows: NDArray[np.float32]) -> None:
    if len(rows) < MIN_ROWS:
        raise TrainingDataError(
            f"Only {len(rows)} usable rows are left, but training needs at least {MIN_ROWS}; bring more.",
            n_rows=len(rows),
        )


def _drop_broken(
    x: FloatArray, y: NDArray[np.str_] | None
) -> tuple[NDArray[np.float32], NDArray[np.str_] | None, tuple[str, ...]]:
    limit = float(np.finfo(np.float32).max)
    finite = (np.abs(x) <= limit).all(axis=1)  # NaN compares false
    n_broken = len(x) - int(finite.sum())
    if n_broken > MAX_BROKEN_SHARE * len(x):
        raise TrainingDataError(
            f"{n_broken} of {len(x)} rows hold NaN or infinity, more than {MAX_BROKEN_SHARE:.0%}; repair the file "
            "(drop the dead sensor or fill the gaps) before training.",
            n_broken=n_broken,
        )
    notes = (f"{n_broken} rows with NaN or infinity were dropped.",) if n_broken else ()
    return x[finite].astype(np.float32), None if y is None else y[finite], notes


def _settle_labels(
    x: NDArray[np.float32], y: NDArray[np.str_] | None
) -> tuple[NDArray[np.float32], NDArray[np.str_], tuple[str, ...]]:
    if y is None or not (y != "").any():
        note = "There are no labels: all rows form one class, and the detector tells compactness only."
        return x, np.full(len(x), ONE_CLASS), (note,)
    known = y != ""
    n_unknown = len(y) - int(known.sum())
    notes = (f"{n_unknown} rows without a label were left out; they are not used yet.",) if n_unknown else ()
    return x[known], y[known], notes


def _drop_rare(
    x: NDArray[np.float32], y: NDArray[np.str_]
) -> tuple[NDArray[np.float32], NDArray[np.str_], tuple[str, ...]]:
    names, counts = np.unique(y, return_counts=True)
    rare = names[counts < MIN_CLASS_ROWS]
    if len(rare) == len(names):
        raise TrainingDataError(
            f"No class has {MIN_CLASS_ROWS} rows; bring at least {MIN_CLASS_ROWS} rows a class, better 30, "
            "or leave the labels out to train on all rows as one class.",
            n_classes=len(names),
        )
    kept = ~np.isin(y, rare)
    listed = ", ".join(str(name) for name in rare[:10]) + (", ..." if len(rare) > 10 else "")
    note = f"{len(rare)} classes of fewer than {MIN_CLASS_ROWS} rows were dropped: {listed}."
    return x[kept], y[kept], (note,) if len(rare) else ()


def _constant_notes(x: NDArray[np.float32]) -> tuple[str, ...]:
    constant = np.flatnonzero((x == x[:1]).all(axis=0))
    if not len(constant):
        return ()
    listed = ", ".join(str(column) for column in constant[:10]) + (", ..." if len(constant) > 10 else "")
    return (f"{len(constant)} constant columns carry nothing: {listed}.",)
