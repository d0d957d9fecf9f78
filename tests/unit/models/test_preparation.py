"""Splits and samples of training rows, and figures of collapse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.collapse import CollapseFigures, check_collapse
from models.diversity import effective_rank, score_diversity
from models.errors import CollapseError
from models.preparation import KEPT_OF_EACH_CLASS, cap_rows, split_indices


@given(counts=st.lists(st.integers(1, 40), min_size=1, max_size=5), seed=st.integers(0, 1000))
def test_split_gives_every_row_to_one_part_and_every_class_to_training(counts: list[int], seed: int) -> None:
    """And to each other part from three rows on."""
    labels = np.repeat(np.arange(len(counts)), counts)
    parts = split_indices(labels, shares=(0.2, 0.1), generator=np.random.default_rng(seed))
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    assert set(labels[parts[0]]) == set(range(len(counts)))
    large = {index for index, count in enumerate(counts) if count >= 3}
    assert large <= set(labels[parts[1]])
    assert large <= set(labels[parts[2]])


def test_split_is_stratified_when_rows_are_many() -> None:
    """70 / 20 / 10 of each class."""
    labels = np.repeat([0, 1], [1000, 100])
    parts = split_indices(labels, shares=(0.2, 0.1), generator=np.random.default_rng(0))
    assert [np.bincount(labels[part]).tolist() for part in parts] == [[700, 70], [200, 20], [100, 10]]


def test_cap_rows_keeps_rare_classes() -> None:
    """12 rows of class 1 among 10 000, sampled down to 500."""
    labels = np.zeros(10_000, dtype=np.int64)
    labels[::900] = 1
    kept = cap_rows(labels, limit=500, generator=np.random.default_rng(0))
    assert (labels[kept] == 1).sum() == 12
    assert 500 <= len(kept) <= 500 + 2 * KEPT_OF_EACH_CLASS


def test_effective_rank_counts_equal_directions() -> None:
    """Two orthogonal directions of one length; a line; a point."""
    square = np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]], dtype=np.float32)
    assert effective_rank(square) == pytest.approx(2.0)
    assert effective_rank(square[:2]) == pytest.approx(1.0)
    assert effective_rank(np.ones((4, 3), dtype=np.float32)) == 1.0


def test_score_diversity_is_per_distinct_row() -> None:
    """Four rows, two of them distinct, one score for all."""
    x = np.array([[0.0], [0.0], [1.0], [1.0]], dtype=np.float32)
    assert score_diversity(np.full(4, 2.0), x) == 0.5


@pytest.mark.parametrize(
    "figures",
    [CollapseFigures(0.01, 5.0, 0.9, 0.5), CollapseFigures(1.0, 1.0, 0.9, 0.5), CollapseFigures(1.0, 5.0, 0.3, 0.6)],
)
def test_check_collapse_refuses_when_nothing_is_told_apart(figures: CollapseFigures) -> None:
    """One score for all, one point for all, worse than random weights."""
    with pytest.raises(CollapseError):
        check_collapse(figures)
    check_collapse(CollapseFigures(1.0, 5.0, 0.9, 0.5))
