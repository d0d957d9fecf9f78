"""Small seeded detectors, trained once a session."""

from __future__ import annotations

import pytest
import torch

from models import api
from tests.unit.models.blobs import blobs


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


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
