"""Which labelled samples train a candidate and which judge it. Pure; no store, no clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from models.api import IntArray

#: Fewest training rows of a class: its region is a shrunk Gaussian, which fewer rows do not settle.
MIN_TRAIN_PER_CLASS = 20
#: Share of each class, the newest, that is held out for the gate.
GATE_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Split:
    """Rows to train on and rows to judge by, as indices; they share none."""

    train: IntArray
    gate: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Labelled samples.

    Attributes:
        labels: Label of each row.
        event_times: Time of each event, UTC.
        streamed: Rows that came through the stream, bool (n,); the others come from a training file.
    """

    labels: tuple[str, ...]
    event_times: tuple[datetime, ...]
    streamed: NDArray[np.bool_]


def split(
    rows: Labelled, *, classes: Sequence[str] | None, trained_to: datetime | None, min_gate_rows: int
) -> Split | str:
    """Hold out the newest rows of each class, and train on the others.

    A flagged row with a known label is normal and stays: after drift such rows are the very ones to learn from. Rows
    that the champion may have learned from must not judge it: only streamed rows after ``trained_to`` do.

    Args:
        rows: Usable rows.
        classes: The champion's classes, which the candidate must know as well; None when there is no champion.
        trained_to: Newest row that the champion learned from, where that is known.
        min_gate_rows: Fewest rows to judge by.

    Returns:
        The split, or the plain reason why there is none.
    """
    labels = np.array(rows.labels, dtype=np.str_)
    names = sorted(set(rows.labels)) if classes is None else list(classes)
    needed = min_gate_rows + MIN_TRAIN_PER_CLASS * max(1, len(names))
    if len(labels) < needed:
        return (
            f"only {len(labels)} labelled samples of {len(set(rows.labels))} classes; needs {needed}: "
            f"{min_gate_rows} to judge by and {MIN_TRAIN_PER_CLASS} of each class to train on"
        )
    fresh = _fresh(rows, has_champion=classes is not None, trained_to=trained_to)
    if fresh.sum() < min_gate_rows:
        return (
            f"only {int(fresh.sum())} labelled samples are new since the champion was trained; "
            f"the gate needs {min_gate_rows}"
        )
    gate = _newest_of_each_class(rows, labels, fresh, min_gate_rows=min_gate_rows)
    train = np.setdiff1d(np.arange(len(labels)), gate)
    return _with_enough_of_each(Split(train, gate), labels, names, may_drop=classes is None)


def _fresh(rows: Labelled, *, has_champion: bool, trained_to: datetime | None) -> NDArray[np.bool_]:
    if not has_champion:
        return np.ones(len(rows.labels), dtype=bool)
    later = np.array([trained_to is None or time > trained_to for time in rows.event_times], dtype=bool)
    return later & rows.streamed


def _newest_of_each_class(
    rows: Labelled, labels: NDArray[np.str_], fresh: NDArray[np.bool_], *, min_gate_rows: int
) -> IntArray:
    """The same share of the newest fresh rows of every class: classes often come in runs."""
    share = min(1.0, max(GATE_SHARE * len(labels), min_gate_rows) / int(fresh.sum()))
    newest_first = np.array(sorted(range(len(labels)), key=lambda row: rows.event_times[row], reverse=True))
    chosen = []
    for label in np.unique(labels[fresh]):
        own = newest_first[(labels[newest_first] == label) & fresh[newest_first]]
        chosen.append(own[: int(np.ceil(share * len(own)))])
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def _with_enough_of_each(
    found: Split, labels: NDArray[np.str_], names: Sequence[str], *, may_drop: bool
) -> Split | str:
    counts = Counter(labels[found.train].tolist())
    scarce = [name for name in names if counts[name] < MIN_TRAIN_PER_CLASS]
    if not scarce:
        return found
    if may_drop and len(scarce) < len(names):
        return Split(found.train[~np.isin(labels[found.train], scarce)], found.gate)
    listed = ", ".join(f"{name}: {counts[name]}" for name in scarce[:10])
    return f"too few labelled samples to train on ({listed}); each class needs {MIN_TRAIN_PER_CLASS} besides the newest"
