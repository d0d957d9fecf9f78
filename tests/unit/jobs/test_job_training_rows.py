"""Which labelled samples train and which judge."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from monitor.jobs.training_rows import Labelled, Split, split

START = datetime(2026, 1, 1, tzinfo=UTC)


def rows(labels: Sequence[str], *, streamed: bool = True) -> Labelled:
    """One row a minute, oldest first."""
    times = tuple(START + timedelta(minutes=i) for i in range(len(labels)))
    return Labelled(tuple(labels), times, np.full(len(labels), streamed))


MIXED = rows(["a", "b"] * 100)


def test_split_holds_out_the_newest_rows_of_each_class() -> None:
    """A fifth, or what the gate needs, of every class; the rest trains."""
    found = split(MIXED, classes=["a", "b"], trained_to=None, min_gate_rows=50)

    assert isinstance(found, Split)
    assert sorted(found.gate) == list(range(150, 200))
    assert sorted(found.train) == list(range(150))


def test_split_takes_every_class_into_the_gate_when_classes_come_in_runs() -> None:
    """The newest rows alone would be of one class."""
    labels = ["a"] * 100 + ["b"] * 100

    found = split(rows(labels), classes=["a", "b"], trained_to=None, min_gate_rows=50)

    assert isinstance(found, Split)
    assert {labels[row] for row in found.gate} == {"a", "b"}


def test_split_refuses_with_numbers_when_there_are_too_few() -> None:
    """The reason says how many there are and what it takes."""
    found = split(rows(["a", "b"] * 10), classes=["a", "b"], trained_to=None, min_gate_rows=50)

    assert found == ("only 20 labelled samples of 2 classes; needs 90: 50 to judge by and 20 of each class to train on")


def test_split_refuses_when_nothing_is_new_since_the_champion() -> None:
    """Rows that the champion learned from cannot judge it."""
    found = split(MIXED, classes=["a", "b"], trained_to=START + timedelta(minutes=179), min_gate_rows=50)

    assert found == "only 20 labelled samples are new since the champion was trained; the gate needs 50"


def test_split_refuses_when_all_rows_come_from_a_training_file() -> None:
    """The champion was trained on that very file."""
    found = split(rows(["a", "b"] * 100, streamed=False), classes=["a", "b"], trained_to=None, min_gate_rows=50)

    assert found == "only 0 labelled samples are new since the champion was trained; the gate needs 50"


def test_split_refuses_when_a_class_of_the_champion_has_nearly_gone() -> None:
    """A candidate that forgets a class is no candidate."""
    found = split(rows(["a"] * 190 + ["b"] * 10), classes=["a", "b"], trained_to=None, min_gate_rows=50)

    assert isinstance(found, str)
    assert found.startswith("too few labelled samples to train on (b: 7)")


def test_split_leaves_a_scarce_class_out_when_there_is_no_champion() -> None:
    """A first version starts with the classes that have rows."""
    labels = ["a"] * 190 + ["b"] * 10

    found = split(rows(labels), classes=None, trained_to=None, min_gate_rows=50)

    assert isinstance(found, Split)
    assert {labels[row] for row in found.train} == {"a"}
