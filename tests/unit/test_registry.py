"""The registry: artifacts are immutable, verified, and never outside its folder."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

import models.api
from models.api import DetectorConfig, Trained
from monitor.errors import ConfigError, RegistryError
from monitor.registry import Registry


@pytest.fixture(scope="module")
def trained() -> Trained:
    """The smallest real detector."""
    generator = np.random.default_rng(0)
    y = np.repeat(np.array(["a", "b"]), 60)
    x = generator.normal(size=(120, 3)) + np.where(y == "a", 0.0, 6.0)[:, np.newaxis]
    return models.api.fit(x, y, config=DetectorConfig(profile="fast", embedding_dim=4, epochs=8), seed=0)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """An empty registry; its folder does not exist yet."""
    return Registry(str(tmp_path / "registry"))


def test_save_and_load_give_the_same_scores(registry: Registry, trained: Trained) -> None:
    """The path is relative, so that the folder can move."""
    artifact_uri, sha256 = registry.save("gas", trained)
    assert artifact_uri == f"gas/{sha256[:12]}"
    moved = registry.root.rename(registry.root.with_name("moved"))
    x = np.ones((2, 3))
    loaded = Registry(f"file://{moved}").load(artifact_uri, sha256)
    assert loaded.score(x).score.tolist() == trained.scorer.score(x).score.tolist()


def test_save_again_changes_nothing(registry: Registry, trained: Trained) -> None:
    """The same bytes have the same place; nothing temporary is left."""
    first = registry.save("gas", trained)
    assert registry.save("gas", trained) == first
    assert [path.name for path in (registry.root / "gas").iterdir()] == [first[1][:12]]


def test_save_leaves_nothing_when_the_disk_refuses(
    registry: Registry, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rename that fails is told, and its draft removed."""

    def refuse(_self: Path, _target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(RegistryError, match="No space left on device"):
        registry.save("gas", trained)
    assert list((registry.root / "gas").iterdir()) == []


def test_load_names_the_folder_and_the_remedy_when_it_is_missing(registry: Registry) -> None:
    """What an operator reads at night."""
    with pytest.raises(RegistryError, match=r"gas/0123: this model artifact is missing\. Check registry\.uri"):
        registry.load("gas/0123", "0" * 64)


def test_load_refuses_bytes_that_were_changed(registry: Registry, trained: Trained) -> None:
    """One changed byte in any file is found."""
    artifact_uri, sha256 = registry.save("gas", trained)
    for file in (registry.root / artifact_uri).iterdir():
        whole = file.read_bytes()
        file.chmod(0o644)
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(RegistryError):
            registry.load(artifact_uri, sha256)
        file.write_bytes(whole)
    registry.load(artifact_uri, sha256)


@pytest.mark.parametrize("uri", ["../outside", "/etc", "gas/../../outside"])
def test_load_never_leaves_the_folder(registry: Registry, uri: str) -> None:
    """A row in a database must not lead anywhere else."""
    with pytest.raises(RegistryError, match="leads out of the registry"):
        registry.load(uri, "0" * 64)


def test_load_does_not_follow_a_link_out_of_the_folder(registry: Registry, tmp_path: Path) -> None:
    """Nor may a link."""
    (tmp_path / "outside").mkdir()
    registry.root.mkdir()
    (registry.root / "gas").symlink_to(tmp_path / "outside")
    with pytest.raises(RegistryError, match="leads out of the registry"):
        registry.load("gas/x", "0" * 64)


def test_prune_removes_only_what_is_old_and_named_by_nobody(registry: Registry) -> None:
    """What is young may be about to be published."""
    now = datetime(2026, 1, 10, tzinfo=UTC)
    for name, age in (("kept", 9), ("old", 9), ("young", 0), (".saving-x", 9)):
        folder = registry.root / "gas" / name
        folder.mkdir(parents=True)
        changed = (now - timedelta(days=age)).timestamp()
        os.utime(folder, (changed, changed))
    assert registry.prune_orphans("gas", keep={"gas/kept"}, now=now) == ("gas/.saving-x", "gas/old")
    assert sorted(path.name for path in (registry.root / "gas").iterdir()) == ["kept", "young"]
    assert registry.prune_orphans("nobody", keep=(), now=now) == ()


def test_registry_refuses_a_place_that_is_not_supported() -> None:
    """Object storage comes later."""
    with pytest.raises(ConfigError, match="s3:// is not supported"):
        Registry("s3://bucket/models")
