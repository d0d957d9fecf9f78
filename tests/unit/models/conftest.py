"""Small seeded detectors, trained once a session."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models import api

Rows = tuple[NDArray[np.float32], NDArray[np.str_]]


def blobs(n_rows: int, *, n_classes: int = 3, dimension: int = 6, seed: int = 0) -> Rows:
    """Rows of well separated Gaussian classes a, b, c, ..."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(1).normal(scale=5.0, size=(n_classes, dimension))
    labels = generator.integers(0, n_classes, n_rows)
    x = centres[labels] + generator.normal(size=(n_rows, dimension))
    return x.astype(np.float32), np.array([chr(ord("a") + label) for label in labels])


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def make_blobs() -> object:
    """The function ``blobs``."""
    return blobs


@pytest.fixture(scope="session")
def trained() -> api.Trained:
    """A detector of three blobs, fast profile."""
    x, y = blobs(900)
    return api.fit(x, y, config=api.DetectorConfig(profile="fast", epochs=10), seed=0)


@pytest.fixture(scope="session")
def trained_full() -> api.Trained:
    """The same, full profile."""
    x, y = blobs(900)
    return api.fit(x, y, config=api.DetectorConfig(epochs=10), seed=0)
