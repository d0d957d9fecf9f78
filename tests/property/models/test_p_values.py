"""p <= alpha exactly when score > value, for any scores, ties, sizes and rates."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.thresholds import MAX_KEPT_SCORES, calibrate, limited_step, p_values

finite = st.floats(0.0, 100.0, allow_subnormal=False)


@settings(max_examples=200, deadline=None)
@given(
    scores=st.lists(st.one_of(finite, st.sampled_from([1.0, 2.0, 3.0])), min_size=1, max_size=60),
    new=st.lists(st.one_of(finite, st.sampled_from([1.0, 2.0, 3.0])), min_size=1, max_size=20),
    alpha=st.floats(0.001, 0.49),
    n_classes=st.integers(1, 3),
)
def test_p_value_and_threshold_agree_when_scores_are_few(
    scores: list[float], new: list[float], alpha: float, n_classes: int
) -> None:
    """Own, pooled and smallest thresholds alike."""
    nearest = np.arange(len(scores)) % n_classes
    specs = calibrate(np.array(scores), nearest, classes=[str(k) for k in range(n_classes)], alpha=alpha)
    rows = np.concatenate([new, scores])
    classes = np.arange(len(rows)) % n_classes
    p = p_values(rows, classes, specs)
    values, alphas = (np.array([getattr(spec, name) for spec in specs])[classes] for name in ("value", "alpha"))
    assert ((p <= alphas) == (rows > values)).all()
    assert ((p > 0) & (p <= 1)).all()


@settings(max_examples=15, deadline=None)
@given(n_scores=st.integers(1_900, 30_000), alpha=st.floats(0.0005, 0.49), seed=st.integers(0, 10_000))
def test_p_value_and_threshold_agree_when_scores_are_a_subsample(n_scores: int, alpha: float, seed: int) -> None:
    """The kept ranks hold the threshold, with ties from rounding."""
    generator = np.random.default_rng(seed)
    scores = generator.exponential(size=n_scores).round(3)
    (spec,) = calibrate(scores, np.zeros(n_scores, dtype=np.int64), classes=("a",), alpha=alpha)
    rows = np.concatenate([scores[:500], [spec.value, np.nextafter(spec.value, np.inf), 0.0, 1e9]])
    p = p_values(rows, np.zeros(len(rows), dtype=np.int64), (spec,))
    assert len(spec.calibration_scores) <= MAX_KEPT_SCORES
    assert ((p <= spec.alpha) == (rows > spec.value)).all()


@given(old=st.floats(1e-6, 1e6), new=st.floats(1e-6, 1e6), ratio=st.floats(1.001, 10.0))
def test_limited_step_stays_within_the_ratio_and_between_the_two(old: float, new: float, ratio: float) -> None:
    """Never past the wanted value, never past the ratio."""
    value, limited = limited_step(old, new, max_ratio=ratio)
    assert old / ratio <= value <= old * ratio
    assert min(old, new) <= value <= max(old, new)
    assert limited == (value != new)
