"""A detector on disk: ``model.safetensors`` and ``card.json``, hashed, written whole or not at all.

Never pickle, never torch.load.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from models.class_model import ClassModel
from models.encoder import make_encoder
from models.errors import (
    ArtifactError,
    ArtifactExists,
    ArtifactMalformed,
    ArtifactMissing,
    ArtifactTampered,
    ArtifactTooNew,
)
from models.features import Standardiser
from models.regions import Regions
from models.scorer import RegionScorer
from models.training import FORMAT_VERSION
from models.values import DetectorConfig, ModelCard, Scorer, Trained

WEIGHTS_NAME = "model.safetensors"
CARD_NAME = "card.json"
#: Larger files are refused before they are read: a full profile of 1 000 classes has 60 MB.
MAX_WEIGHTS_BYTES = 1 << 30
MAX_CARD_BYTES = 16 << 20
MAX_DIMENSION = 1 << 20
MAX_CLASSES = 100_000


def save(trained: Trained | Scorer, folder: Path) -> str:
    """Write a detector to a new folder.

    Order: (1) both files to a temporary folder beside the target, (2) fsync files and folder, (3) rename,
    (4) fsync the parent. A crash before (3) leaves no folder of that name.

    Args:
        trained: A scorer, or the training result that holds it.
        folder: Where to; must not exist.

    Returns:
        Lower-case hexadecimal SHA-256 over both files.

    Raises:
        ArtifactExists: The folder is taken.
        ArtifactError: The scorer is not one of ours, or the disk refuses.
    """
    scorer = trained.scorer if isinstance(trained, Trained) else trained
    if not isinstance(scorer, RegionScorer):
        raise ArtifactError(f"A {type(scorer).__name__} cannot be stored; only detectors trained by this program can.")
    weights, card = save_tensors(_tensors(scorer)), _card_bytes(scorer.card)
    if folder.exists():
        raise ArtifactExists(f"{folder} exists already and is never overwritten; choose a new folder.")
    try:
        _write(folder, {WEIGHTS_NAME: weights, CARD_NAME: card})
    except OSError as error:
        raise ArtifactError(f"Cannot write the model to {folder}: {error.strerror or error}.") from error
    return _digest(weights, card)


def load(folder: Path, *, sha256: str) -> RegionScorer:
    """Read a detector and verify it: sizes and digest before a byte is parsed, then version, names, shapes, finiteness.

    Args:
        folder: What ``save`` wrote.
        sha256: The digest it returned.

    Returns:
        A scorer whose scores are bit-identical to those of the one that was saved.

    Raises:
        ArtifactMissing: A file is not there.
        ArtifactTampered: The digest differs.
        ArtifactTooNew: A later format.
        ArtifactMalformed: The content does not fit together.
    """
    weights = _read(folder / WEIGHTS_NAME, limit=MAX_WEIGHTS_BYTES)
    card_bytes = _read(folder / CARD_NAME, limit=MAX_CARD_BYTES)
    found = _digest(weights, card_bytes)
    if found != sha256.lower():
        raise ArtifactTampered(
            f"{folder} has SHA-256 {found[:12]}..., but {sha256[:12]}... was recorded when it was saved; "
            "restore it from a backup.",
            found=found,
            expected=sha256,
        )
    card = _parse_card(card_bytes, folder)
    try:
        return _assemble(card, load_tensors(weights))
    except (SafetensorError, KeyError, RuntimeError, ValueError, TypeError) as error:
        raise ArtifactMalformed(f"The weights in {folder} do not fit their card: {error}.") from error


def _tensors(scorer: RegionScorer) -> dict[str, Tensor]:
    tensors = {f"encoder.{name}": tensor for name, tensor in scorer.encoder.state_dict().items()}
    tensors |= {f"regions.{name}": getattr(scorer.regions, name) for name in Regions.__dataclass_fields__}
    tensors |= {"standardiser.mean": scorer.standardiser.mean, "standardiser.scale": scorer.standardiser.scale}
    tensors |= {"class_model.weight": scorer.class_model.weight, "class_model.bias": scorer.class_model.bias}
    tensors["centres"] = scorer.centres
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}


def _assemble(card: ModelCard, tensors: dict[str, Tensor]) -> RegionScorer:
    not_finite = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if not_finite:
        raise ValueError(f"not finite: {', '.join(sorted(not_finite))}")
    encoder = make_encoder(card.config, dimension=card.dimension, generator=torch.Generator().manual_seed(0))
    encoder.load_state_dict({k.removeprefix("encoder."): v for k, v in tensors.items() if k.startswith("encoder.")})
    encoder.eval().requires_grad_(requires_grad=False)
    regions = Regions(**{name: tensors[f"regions.{name}"] for name in Regions.__dataclass_fields__})
    scorer = RegionScorer(
        card=card,
        standardiser=Standardiser(tensors["standardiser.mean"], tensors["standardiser.scale"]),
        encoder=encoder,
        class_model=ClassModel(tensors["class_model.weight"], tensors["class_model.bias"], len(card.classes)),
        regions=regions,
        centres=tensors["centres"],
    )
    _check_shapes(scorer)
    return scorer


def _check_shapes(scorer: RegionScorer) -> None:
    card, regions = scorer.card, scorer.regions
    expected = {
        "standardiser.mean": (scorer.standardiser.mean, (card.dimension,)),
        "standardiser.scale": (scorer.standardiser.scale, (card.dimension,)),
        "centres": (scorer.centres, (len(card.classes), card.dimension)),
        "regions.offset": (regions.offset, (len(card.classes), regions.whitening.shape[2])),
    }
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {shape}")
    shortlist = scorer.shortlist(np.zeros((1, card.dimension), dtype=np.float32), length=len(card.classes))
    if not np.isfinite(shortlist.distances).all():
        raise ValueError("a row of zeros has no finite score")


def _card_bytes(card: ModelCard) -> bytes:
    return (json.dumps(asdict(card), indent=2, allow_nan=True, ensure_ascii=False) + "\n").encode()


def _parse_card(content: bytes, folder: Path) -> ModelCard:
    try:
        fields = json.loads(content)
        version = int(fields["format_version"])
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactMalformed(f"{folder / CARD_NAME} is not a model card: {error}.") from error
    if version > FORMAT_VERSION:
        raise ArtifactTooNew(
            f"{folder} has format {version}, this program reads up to {FORMAT_VERSION}; upgrade before loading it.",
            found=version,
        )
    try:
        return _card(fields)
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactMalformed(f"{folder / CARD_NAME} is not a model card: {error}.") from error


def _card(fields: dict[str, Any]) -> ModelCard:
    card = ModelCard(**{**fields, "classes": tuple(fields["classes"]), "config": DetectorConfig(**fields["config"])})
    if not 0 < card.dimension <= MAX_DIMENSION or not 0 < len(card.classes) <= MAX_CLASSES:
        raise ValueError(f"dimension {card.dimension} or {len(card.classes)} classes out of bounds")
    if not 0 < card.config.embedding_dim <= MAX_DIMENSION:
        raise ValueError(f"embedding_dim {card.config.embedding_dim} out of bounds")
    return card


def _digest(weights: bytes, card: bytes) -> str:
    """SHA-256 over names, lengths and contents: bytes cannot move from one file to the other unnoticed."""
    digest = hashlib.sha256()
    for name, content in ((WEIGHTS_NAME, weights), (CARD_NAME, card)):
        digest.update(f"{name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _read(path: Path, *, limit: int) -> bytes:
    try:
        size = path.stat().st_size
        if size > limit:
            raise ArtifactMalformed(f"{path} has {size} bytes, more than the {limit} that a model can have.")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ArtifactMissing(f"{path} is missing; restore the folder from a backup or train again.") from error
    except OSError as error:
        raise ArtifactError(f"Cannot read {path}: {error.strerror or error}.") from error


def _write(folder: Path, files: dict[str, bytes]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _temporary_beside(folder) as temporary:
        for name, content in files.items():
            with (temporary / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        _fsync_folder(temporary)
        temporary.rename(folder)  # fails when another process was faster and its folder is not empty
    _fsync_folder(folder.parent)


@contextlib.contextmanager
def _temporary_beside(folder: Path) -> Iterator[Path]:
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    temporary.chmod(0o755)  # mkdtemp makes it private; a worker under another user reads it
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
