"""A histogram of known relative accuracy that two workers can add together. Pure; no SQL here."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitor.errors import StoreError

#: Greatest relative error of a quantile between ``SMALLEST`` and ``GREATEST``.
RELATIVE_ACCURACY = 0.01
#: Values outside count as the nearer end, which bounds a sketch at 1728 bins. Scores are greater than zero and
#: latencies are seconds, so nothing of interest lies below a millionth.
SMALLEST, GREATEST = 1e-6, 1e9

_GAMMA = (1 + RELATIVE_ACCURACY) / (1 - RELATIVE_ACCURACY)
_LOG_GAMMA = float(np.log(_GAMMA))
#: Version of the byte form, maximum, index of the first bin, number of bins, bytes of one count.
_HEADER = struct.Struct("<BdiIB")
_VERSION = 1


@dataclass(frozen=True, slots=True, eq=False)
class Sketch:
    """Counts of values in bins whose bounds grow by a constant factor.

    Bin i holds the values in (g^(i-1), g^i] with g = (1 + a) / (1 - a), a = 0.01; its middle 2 g^i / (g + 1) is within
    a of each of them.

    Attributes:
        first: Index of the first bin.
        counts: Values in each bin from ``first`` on, int64 (n_bins,).
        maximum: Greatest value, exact; 0 when empty.

    Source:
        Masson, Rim and Lee (2019), "DDSketch: a fast and fully-mergeable quantile sketch with relative-error
        guarantees", section 2.
    """

    first: int
    counts: NDArray[np.int64]
    maximum: float

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Sketch:
        """Sketch of values of shape (n,); NaN is left out."""
        values = values[~np.isnan(values)]
        if not len(values):
            return cls(0, np.zeros(0, dtype=np.int64), 0.0)
        bins = np.ceil(np.log(np.clip(values, SMALLEST, GREATEST)) / _LOG_GAMMA).astype(np.int64)
        first = int(bins.min())
        return cls(first, np.bincount(bins - first).astype(np.int64), float(values.max()))

    @property
    def count(self) -> int:
        """Number of values."""
        return int(self.counts.sum())

    def merge(self, other: Sketch) -> Sketch:
        """Sketch of the values of both: the same as if it had been made of all of them at once."""
        if not len(self.counts):
            return other
        if not len(other.counts):
            return self
        first = min(self.first, other.first)
        end = max(self.first + len(self.counts), other.first + len(other.counts))
        counts = np.zeros(end - first, dtype=np.int64)
        for part in (self, other):
            counts[part.first - first : part.first - first + len(part.counts)] += part.counts
        return Sketch(first, counts, max(self.maximum, other.maximum))

    def quantile(self, fraction: float) -> float | None:
        """Value below which ``fraction`` of the values lie; None when empty.

        Args:
            fraction: In [0, 1]; 1 gives the exact maximum.

        Returns:
            Within ``RELATIVE_ACCURACY`` of the value of rank floor(fraction * (n - 1)).
        """
        if not len(self.counts):
            return None
        if fraction >= 1:
            return self.maximum
        cumulative = np.cumsum(self.counts)
        rank = int(fraction * (int(cumulative[-1]) - 1))
        index = self.first + int(np.searchsorted(cumulative, rank, side="right"))
        return min(self.maximum, float(2 * np.exp(index * _LOG_GAMMA) / (_GAMMA + 1)))

    def to_bytes(self) -> bytes:
        """Compact form, counts in the smallest integers that hold them: a few hundred bytes a minute."""
        top = int(self.counts.max(initial=0))
        size = next(size for size in (1, 2, 4, 8) if top < 1 << (8 * size))
        header = _HEADER.pack(_VERSION, self.maximum, self.first, len(self.counts), size)
        return header + self.counts.astype(f"<u{size}").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Sketch:
        """Read what ``to_bytes`` wrote.

        Raises:
            StoreError: Of another version.
        """
        version, maximum, first, n_bins, size = _HEADER.unpack_from(data)
        if version != _VERSION:
            raise StoreError(f"A histogram in window_stats has format {version}; this program knows {_VERSION}.")
        counts = np.frombuffer(data, f"<u{size}", count=n_bins, offset=_HEADER.size)
        return cls(first, counts.astype(np.int64), maximum)
