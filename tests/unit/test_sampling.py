"""Sampling: uniform, bounded, and the same for a replay."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from monitor.records import TopicPartition
from monitor.sampling import SampleRate, choose, reservoir_keys

PARTITION = TopicPartition("t", 3)


def test_reservoir_keys_are_uniform_and_depend_on_identity_alone() -> None:
    """Ten thousand offsets spread evenly; batches do not matter; partitions differ."""
    offsets = np.arange(10_000)
    keys = reservoir_keys(PARTITION, offsets)
    assert ((keys >= 0) & (keys < 1)).all()
    counts, _ = np.histogram(keys, bins=10, range=(0, 1))
    assert (abs(counts - 1000) < 150).all()
    assert (reservoir_keys(PARTITION, offsets[500:600]) == keys[500:600]).all()
    assert not (reservoir_keys(TopicPartition("t", 4), offsets) == keys).any()


@given(st.lists(st.floats(0, 1), max_size=50), st.integers(0, 60))
def test_choose_takes_the_smallest_keys_in_order(keys: list[float], limit: int) -> None:
    """As many as allowed, no key left out that is smaller than one taken."""
    array = np.array(keys)
    rows = choose(array, limit=limit)
    assert len(rows) == min(limit, len(keys))
    assert list(rows) == sorted(set(rows.tolist()))
    left = np.delete(array, rows)
    assert not len(left) or not len(rows) or array[rows].max() <= left.min()


def test_sample_rate_grants_the_rate_in_the_long_run() -> None:
    """A burst of five seconds is kept whole, then the rate holds; a clock that jumps back grants nothing extra."""
    rate = SampleRate(10.0)
    assert rate.allow(1000, now_s=100.0) == 50
    assert rate.allow(1000, now_s=101.0) == 10
    assert rate.allow(3, now_s=102.0) == 3
    assert rate.allow(1000, now_s=50.0) == 7
    assert rate.allow(1000, now_s=51.0) == 10
