"""The histogram behind the window statistics."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.errors import StoreError
from monitor.store.sketch import GREATEST, RELATIVE_ACCURACY, SMALLEST, Sketch

values = st.lists(st.floats(min_value=SMALLEST, max_value=GREATEST), max_size=50).map(
    lambda numbers: np.array(numbers, dtype=np.float64)
)
fractions = st.floats(min_value=0, max_value=1)


def same(left: Sketch, right: Sketch) -> bool:
    """Whether two sketches would be stored alike."""
    return left.to_bytes() == right.to_bytes()


@given(values, fractions)
def test_quantile_is_within_the_relative_accuracy(numbers: np.ndarray, fraction: float) -> None:
    """Of the value of that rank."""
    found = Sketch.of(numbers).quantile(fraction)
    if not len(numbers):
        assert found is None
        return
    exact = np.sort(numbers)[int(fraction * (len(numbers) - 1))]
    assert found == pytest.approx(exact, rel=RELATIVE_ACCURACY * (1 + 1e-9))


@given(values, values)
def test_merge_is_the_sketch_of_all_values(left: np.ndarray, right: np.ndarray) -> None:
    """As if one worker had seen them all."""
    assert same(Sketch.of(left).merge(Sketch.of(right)), Sketch.of(np.concatenate([left, right])))


@given(values, values, values)
def test_merge_does_not_depend_on_the_order(first: np.ndarray, second: np.ndarray, third: np.ndarray) -> None:
    """Workers come as they come."""
    a, b, c = Sketch.of(first), Sketch.of(second), Sketch.of(third)
    assert same(a.merge(b).merge(c), c.merge(a.merge(b)))
    assert same(a.merge(b), b.merge(a))


@given(values)
def test_bytes_come_back_as_the_same_sketch(numbers: np.ndarray) -> None:
    """To the last count."""
    sketch = Sketch.of(numbers)
    read = Sketch.from_bytes(sketch.to_bytes())
    assert same(read, sketch)
    assert read.count == len(numbers)


@pytest.mark.parametrize("count", [255, 256, 65_535, 65_536, 2**32])
def test_bytes_hold_counts_of_any_size(count: int) -> None:
    """The integers grow with the counts."""
    sketch = Sketch(3, np.array([count, 1], dtype=np.int64), 1.5)
    assert Sketch.from_bytes(sketch.to_bytes()).counts.tolist() == [count, 1]


def test_bytes_of_an_ordinary_minute_are_few() -> None:
    """A row a minute and stream for 90 days must stay small."""
    scores = np.random.default_rng(0).lognormal(size=10_000)
    assert len(Sketch.of(scores).to_bytes()) < 1000


def test_values_out_of_range_count_at_the_nearer_end() -> None:
    """The size stays bounded whatever comes, and the maximum stays exact."""
    sketch = Sketch.of(np.array([0.0, 1e-300, 1e300, np.inf, np.nan]))
    assert sketch.count == 4
    assert len(sketch.counts) < 1800
    assert sketch.quantile(1) == np.inf
    assert Sketch.of(np.array([0.0])).quantile(0.5) == 0.0


def test_bytes_of_another_version_are_refused() -> None:
    """An old program must not read them as something else."""
    with pytest.raises(StoreError, match="format 9"):
        Sketch.from_bytes(b"\x09" + Sketch.of(np.array([1.0])).to_bytes()[1:])
