"""Artifacts: bit-identical round trip, whole or nothing, and every way in which a file can be wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from models import api, artifact
from models.errors import (
    ArtifactError,
    ArtifactExists,
    ArtifactMalformed,
    ArtifactMissing,
    ArtifactTampered,
    ArtifactTooNew,
)
from tests.unit.models.blobs import blobs


@pytest.fixture
def saved(trained: api.Trained, tmp_path: Path) -> tuple[Path, str]:
    """A stored detector and its digest."""
    folder = tmp_path / "deep" / "v1"
    return folder, api.save(trained, folder)


def rewrite_card(folder: Path, **fields: object) -> str:
    """Change fields of the card and return the digest that fits the change."""
    path = folder / artifact.CARD_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    return artifact._digest((folder / artifact.WEIGHTS_NAME).read_bytes(), path.read_bytes())


@pytest.mark.parametrize("profile", ["trained", "trained_full"])
def test_load_scores_bit_identically(profile: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Scores, nearest classes, explanations and card survive the disk."""
    trained = request.getfixturevalue(profile)
    loaded = api.load(tmp_path / "v", sha256=api.save(trained, tmp_path / "v"))
    x, _ = blobs(500, seed=3)
    before, after = trained.scorer.score(x), loaded.score(x)
    assert before.score.tobytes() == after.score.tobytes()
    assert before.nearest.tobytes() == after.nearest.tobytes()
    assert np.array_equal(trained.scorer.explain(x[:5], before.nearest[:5]), loaded.explain(x[:5], before.nearest[:5]))
    assert loaded.card == trained.scorer.card


def test_save_never_overwrites_and_leaves_no_temporary_folder(saved: tuple[Path, str], trained: api.Trained) -> None:
    """The second save to a folder is refused and changes nothing."""
    folder, sha256 = saved
    with pytest.raises(ArtifactExists):
        api.save(trained, folder)
    assert [path.name for path in folder.parent.iterdir()] == ["v1"]
    assert len(sha256) == 64
    api.load(folder, sha256=sha256.upper())


def test_save_leaves_nothing_when_the_disk_fails(
    trained: api.Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk at fsync: no folder, no temporary folder, an ArtifactError."""

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtifactError, match="No space left"):
        api.save(trained, tmp_path / "v")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [artifact.WEIGHTS_NAME, artifact.CARD_NAME])
def test_load_refuses_when_a_byte_changed_or_is_missing(saved: tuple[Path, str], name: str) -> None:
    """One flipped bit, one byte less, no file."""
    folder, sha256 = saved
    content = (folder / name).read_bytes()
    for wrong in (content[:-1], content[:-1] + bytes([content[-1] ^ 1])):
        (folder / name).write_bytes(wrong)
        with pytest.raises(ArtifactTampered):
            api.load(folder, sha256=sha256)
    (folder / name).unlink()
    with pytest.raises(ArtifactMissing, match=name):
        api.load(folder, sha256=sha256)


def test_load_refuses_a_later_format(saved: tuple[Path, str]) -> None:
    """Says which, and to upgrade."""
    folder, _ = saved
    with pytest.raises(ArtifactTooNew, match="upgrade"):
        api.load(folder, sha256=rewrite_card(folder, format_version=99))


@pytest.mark.parametrize(
    "fields",
    [
        {"dimension": 7},
        {"dimension": -1},
        {"dimension": "six"},
        {"classes": ["a", "b"]},
        {"classes": []},
        {"classes": None},
        {"config": {"embedding_dim": 16}},
        {"config": {"profile": "best"}},
        {"config": {"profile": "full"}},
        {"config": {"unknown": 1}},
        {"format_version": None},
        {"unknown": 1},
    ],
)
def test_load_refuses_a_card_that_does_not_fit_the_weights(saved: tuple[Path, str], fields: dict[str, object]) -> None:
    """The digest is right (a forger wrote both); shapes and fields are not."""
    folder, _ = saved
    with pytest.raises(ArtifactMalformed):
        api.load(folder, sha256=rewrite_card(folder, **fields))


@pytest.mark.parametrize("content", [b"", b"\xff" * 8 + b"{}", b"\x08" + b"\0" * 7 + b"{}      "])
def test_load_refuses_weights_that_are_not_safetensors(saved: tuple[Path, str], content: bytes) -> None:
    """Empty, an absurd header length, no tensors."""
    folder, _ = saved
    (folder / artifact.WEIGHTS_NAME).write_bytes(content)
    sha256 = artifact._digest(content, (folder / artifact.CARD_NAME).read_bytes())
    with pytest.raises(ArtifactMalformed):
        api.load(folder, sha256=sha256)


def test_load_refuses_a_file_when_it_is_too_large(saved: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Before reading it."""
    folder, sha256 = saved
    monkeypatch.setattr(artifact, "MAX_WEIGHTS_BYTES", 10)
    with pytest.raises(ArtifactMalformed, match="more than the 10"):
        api.load(folder, sha256=sha256)
