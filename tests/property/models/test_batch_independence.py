"""A row's score and nearest class are bit-identical whatever else is in the batch and wherever the row stands."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models import api

N_ROWS = 5000
WIDTHS = (9, 64)


def _detector(profile: str, dimension: int) -> api.Scorer:
    generator = np.random.default_rng(0)
    centres = generator.normal(scale=2.0, size=(7, dimension))
    labels = generator.integers(0, 7, 700)
    x = (centres[labels] + generator.normal(size=(700, dimension))).astype(np.float32)
    config = api.DetectorConfig(profile=profile, epochs=2)
    return api.fit(x, labels.astype(np.str_), config=config, seed=0).scorer


@pytest.fixture(scope="module", params=[(p, w) for p in ("full", "fast") for w in WIDTHS], ids=str)
def scored(request: pytest.FixtureRequest) -> tuple[api.Scorer, NDArray[np.float32], api.Scores]:
    """A detector, rows of every kind (typical, far, huge), and their scores in one batch."""
    profile, dimension = request.param
    scorer = _detector(profile, dimension)
    generator = np.random.default_rng(1)
    x = generator.normal(size=(N_ROWS, dimension)) * 10.0 ** generator.integers(-2, 5, (N_ROWS, 1))
    x[::97] *= 1e30
    rows = np.clip(x, -3e38, 3e38).astype(np.float32)
    return scorer, rows, scorer.score(rows)


@pytest.fixture
def restored_threads() -> Iterator[None]:
    """Put the number of threads back after the test."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _assert_same(scorer: api.Scorer, rows: NDArray[np.float32], whole: api.Scores, chosen: NDArray[np.int64]) -> None:
    part = scorer.score(rows[chosen])
    assert part.score.tobytes() == whole.score[chosen].tobytes()
    assert part.nearest.tobytes() == whole.nearest[chosen].tobytes()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(1, N_ROWS), seed=st.integers(0, 2**32 - 1))
def test_score_is_the_same_when_the_batch_is_a_shuffled_subset(
    scored: tuple[api.Scorer, NDArray[np.float32], api.Scores], size: int, seed: int
) -> None:
    """Subsets of every size, in any order, with repetitions."""
    scorer, rows, whole = scored
    generator = np.random.default_rng(seed)
    _assert_same(scorer, rows, whole, generator.permutation(N_ROWS)[:size])
    _assert_same(scorer, rows, whole, generator.integers(0, N_ROWS, min(size, 300)))


@pytest.mark.parametrize("size", [1, 2, 127, 128, 129, 383, 384, 385, 768, 4999])
def test_score_is_the_same_when_the_batch_size_is_near_a_block_edge(
    scored: tuple[api.Scorer, NDArray[np.float32], api.Scores], size: int
) -> None:
    """Sizes one below, at and one above the blocks' edges."""
    scorer, rows, whole = scored
    _assert_same(scorer, rows, whole, np.arange(N_ROWS - size, N_ROWS))


@pytest.mark.usefixtures("restored_threads")
@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_score_is_the_same_when_the_number_of_threads_differs(
    scored: tuple[api.Scorer, NDArray[np.float32], api.Scores], threads: int
) -> None:
    """Another worker may run with other thread settings; scoring neither depends on them nor changes them."""
    scorer, rows, whole = scored
    torch.set_num_threads(threads)
    _assert_same(scorer, rows, whole, np.random.default_rng(threads).permutation(N_ROWS)[:1000])
    assert torch.get_num_threads() == threads


def test_score_is_finite_and_positive_when_rows_are_extreme(
    scored: tuple[api.Scorer, NDArray[np.float32], api.Scores],
) -> None:
    """Every finite float32, up to the largest."""
    scorer, rows, whole = scored
    huge = np.full((2, rows.shape[1]), np.finfo(np.float32).max, dtype=np.float32)
    huge[1] *= -1
    for scores in (whole.score, scorer.score(huge).score):
        assert scores.dtype == np.float64
        assert np.isfinite(scores).all()
        assert (scores > 0).all()


def test_score_of_no_rows_is_empty(scored: tuple[api.Scorer, NDArray[np.float32], api.Scores]) -> None:
    """B = 0."""
    scorer, rows, _ = scored
    empty = scorer.score(rows[:0])
    assert (empty.score.shape, empty.nearest.shape, empty.nearest.dtype) == ((0,), (0,), np.int64)
