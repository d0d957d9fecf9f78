"""One small champion for all integration tests, and deployments on the real broker with both databases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deployment import Champion, Deployment, train_champion


@pytest.fixture(scope="session")
def small_champion(tmp_path_factory: pytest.TempPathFactory) -> Champion:
    """Three classes in four dimensions; trained in a second or two."""
    return train_champion(tmp_path_factory.mktemp("champion"))


@pytest.fixture
def deploy(tmp_path: Path, small_champion: Champion, bootstrap_servers: str) -> Callable[..., Deployment]:
    """Makes a deployment with the champion published: ``deploy("a", topic=..., store_url=...)``."""

    def make(name: str, *, topic: str, store_url: str | None = None, max_records: int = 200) -> Deployment:
        folder = tmp_path / name
        deployment = Deployment(
            folder, store_url=store_url or f"sqlite:///{folder / 'narrows.db'}", bootstrap_servers=bootstrap_servers,
            topic=topic, max_records=max_records,
        )  # fmt: skip
        deployment.publish(small_champion)
        return deployment

    return make
