"""Rows of Gaussian classes for the tests of models."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = tuple[NDArray[np.float32], NDArray[np.str_]]


def blobs(n_rows: int, *, n_classes: int = 3, dimension: int = 6, seed: int = 0) -> Rows:
    """Rows of well separated Gaussian classes a, b, c, ..."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(1).normal(scale=5.0, size=(n_classes, dimension))
    labels = generator.integers(0, n_classes, n_rows)
    x = centres[labels] + generator.normal(size=(n_rows, dimension))
    return x.astype(np.float32), np.array([chr(ord("a") + label) for label in labels])
