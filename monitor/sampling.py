"""Which records are kept for calibration and training: a bounded, uniform choice. Pure; time is an argument."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from monitor.records import TopicPartition

#: A token bucket holds this many seconds of the rate, so that short bursts of a slow stream are kept whole.
_BURST_S = 5.0


def reservoir_keys(partition: TopicPartition, offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1) that depend on a record's identity alone, so a replay makes the same choice.

    Keeping the k smallest keys of a class is a uniform sample of k of its records without replacement.

    Args:
        partition: Where the records are.
        offsets: Their offsets, (n,).

    Returns:
        Keys, float64 (n,).

    Source:
        splitmix64 (Steele, Lea and Flood, 2014, "Fast splittable pseudorandom number generators") as the hash;
        bottom-k sampling (Cohen and Kaplan, 2007, "Summarizing data using bottom-k sketches").
    """
    seed = zlib.crc32(f"{partition.topic}\0{partition.partition}".encode())
    state = offsets.astype(np.uint64) + np.uint64(seed << 32) + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53


class SampleRate:
    """A token bucket: how many records may be kept now.

    Args:
        per_second: Records kept a second in the long run.
    """

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._tokens = per_second * _BURST_S
        self._at: float | None = None

    def allow(self, wanted: int, *, now_s: float) -> int:
        """Take up to ``wanted`` tokens at monotonic time ``now_s``; a clock that jumps back brings none."""
        elapsed = 0.0 if self._at is None else max(0.0, now_s - self._at)
        self._at = now_s
        self._tokens = min(self._per_second * _BURST_S, self._tokens + elapsed * self._per_second)
        granted = min(wanted, int(self._tokens))
        self._tokens -= granted
        return granted


def choose(keys: NDArray[np.float64], *, limit: int) -> NDArray[np.int64]:
    """Rows to keep: those with the smallest keys, in order of row."""
    if limit >= len(keys):
        return np.arange(len(keys))
    return np.sort(np.argpartition(keys, limit)[:limit]) if limit else np.empty(0, dtype=np.int64)
