"""Thresholds and p-values: exact on tiny inputs, then the guarantee in simulation."""

from __future__ import annotations

import numpy as np
import pytest

from models.errors import CalibrationError
from models.thresholds import (
    MAX_KEPT_SCORES,
    calibrate,
    conformal_threshold,
    kept_ranks,
    limited_specs,
    limited_step,
    needed_scores,
    p_values,
)


def test_conformal_threshold_is_the_largest_score_when_just_enough() -> None:
    """With 9 scores and a rate of 1/10 only the largest may serve."""
    assert conformal_threshold(np.arange(1.0, 10.0), false_alarm_rate=0.1) == 9.0


def test_conformal_threshold_leaves_one_above_when_twice_as_many() -> None:
    """With 19 scores and a rate of 1/10, one calibration score lies above."""
    assert conformal_threshold(np.arange(1.0, 20.0), false_alarm_rate=0.1) == 18.0


def test_conformal_threshold_names_the_number_needed_when_too_few() -> None:
    """Eight scores cannot keep 1/10; nine can."""
    with pytest.raises(CalibrationError, match="at least 9"):
        conformal_threshold(np.arange(8.0), false_alarm_rate=0.1)


@pytest.mark.parametrize(("rate", "needed"), [(0.01, 99), (0.05, 19), (0.1, 9), (0.3, 3)])
def test_needed_scores_is_one_over_rate_less_one(rate: float, needed: int) -> None:
    """METHOD, section 3: n >= 1 / alpha - 1."""
    assert needed_scores(rate) == needed


def test_calibrate_uses_own_scores_when_enough_and_the_pool_otherwise() -> None:
    """Class b has one score only."""
    scores = np.concatenate([np.arange(1.0, 10.0), [100.0]])
    own, pooled = calibrate(scores, np.array([0] * 9 + [1]), classes=("a", "b"), alpha=0.1)
    assert (own.method, own.value, own.n_calibration) == ("conformal", 9.0, 9)
    assert (pooled.method, pooled.value, pooled.n_calibration) == ("conformal-pooled", 100.0, 10)


def test_calibrate_states_the_smallest_rate_when_the_pool_is_too_small() -> None:
    """Four scores keep 1/5 at best."""
    (spec,) = calibrate(np.array([1.0, 2.0, 3.0, 4.0]), np.zeros(4, dtype=np.int64), classes=("a",), alpha=0.01)
    assert (spec.method, spec.value, spec.alpha) == ("conformal-pooled-smallest", 4.0, 0.2)


@pytest.mark.parametrize("scores", [[], [1.0, np.nan], [1.0, np.inf]])
def test_calibrate_refuses_scores_when_none_or_not_finite(scores: list[float]) -> None:
    """Nothing to calibrate from is an error with a remedy, not an infinite threshold."""
    with pytest.raises(CalibrationError):
        calibrate(np.array(scores), np.zeros(len(scores), dtype=np.int64), classes=("a",), alpha=0.1)


@pytest.mark.parametrize("alpha", [0.0, 0.5, -1.0, float("nan")])
def test_calibrate_refuses_a_rate_when_out_of_range(alpha: float) -> None:
    """The configured range is (0, 0.5)."""
    with pytest.raises(CalibrationError, match="between 0 and"):
        calibrate(np.ones(5), np.zeros(5, dtype=np.int64), classes=("a",), alpha=alpha)


def test_p_values_count_scores_at_or_above() -> None:
    """(1 + #{s_i >= s}) / (n + 1) with n = 9."""
    specs = calibrate(np.arange(1.0, 10.0), np.zeros(9, dtype=np.int64), classes=("a",), alpha=0.1)
    p = p_values(np.array([0.5, 5.0, 9.0, 9.5]), np.zeros(4, dtype=np.int64), specs)
    assert p.tolist() == [1.0, 0.6, 0.2, 0.1]


def test_p_values_follow_the_decision_when_the_value_was_moved() -> None:
    """A threshold set by hand decides; p lies on the same side of alpha."""
    specs = calibrate(np.arange(1.0, 10.0), np.zeros(9, dtype=np.int64), classes=("a",), alpha=0.1)
    moved, _ = limited_specs(
        [type(specs[0])("a", 5.0, 0.1, 9, "manual", specs[0].calibration_scores)], specs, max_ratio=1.1
    )
    p = p_values(np.array([5.4, 5.6]), np.zeros(2, dtype=np.int64), moved)
    assert p[0] > 0.1
    assert p[1] <= 0.1


def test_kept_ranks_hold_the_tail_and_the_threshold_when_there_are_many() -> None:
    """50 000 scores at 10 %: the threshold's rank is far below the tail that is kept."""
    ranks = kept_ranks(50_000, alpha=0.1)
    assert len(ranks) <= MAX_KEPT_SCORES
    assert ranks[-1000:].tolist() == list(range(49_000, 50_000))
    assert 50_000 - 5_000 in ranks


def test_p_values_of_a_subsample_are_never_below_the_exact_ones() -> None:
    """Rounding the count up keeps the guarantee; near the top nothing is lost."""
    scores = np.random.default_rng(0).exponential(size=30_000)
    specs = calibrate(scores, np.zeros(30_000, dtype=np.int64), classes=("a",), alpha=0.01)
    new = np.random.default_rng(1).exponential(size=2_000) * 1.2
    exact = (1 + (scores[None, :] >= new[:, None]).sum(1)) / 30_001
    p = p_values(new, np.zeros(2_000, dtype=np.int64), specs)
    assert (p >= exact).all()
    assert (p[exact < 0.03] == exact[exact < 0.03]).all()


def test_false_alarm_rate_is_at_most_alpha_in_simulation() -> None:
    """Mean over 400 calibrations of 150 scores; the standard error is 0.0006."""
    generator = np.random.default_rng(0)
    rates = []
    for _ in range(400):
        (spec,) = calibrate(generator.normal(size=150), np.zeros(150, dtype=np.int64), classes=("a",), alpha=0.05)
        rates.append((generator.normal(size=500) > spec.value).mean())
    assert 0.04 <= np.mean(rates) <= 0.05 + 0.002


@pytest.mark.parametrize(
    ("old", "new", "expected"), [(1.0, 1.1, (1.1, False)), (1.0, 3.0, (1.5, True)), (3.0, 1.0, (2.0, True))]
)
def test_limited_step_stops_at_the_ratio(old: float, new: float, expected: tuple[float, bool]) -> None:
    """At most 1.5 times up or down."""
    assert limited_step(old, new, max_ratio=1.5) == expected


@pytest.mark.parametrize(("old", "new", "ratio"), [(0.0, 1.0, 1.5), (1.0, float("inf"), 1.5), (1.0, 1.0, 1.0)])
def test_limited_step_refuses_what_has_no_ratio(old: float, new: float, ratio: float) -> None:
    """A threshold of zero could never move again."""
    with pytest.raises(CalibrationError):
        limited_step(old, new, max_ratio=ratio)
