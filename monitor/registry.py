"""The registry of model artifacts: immutable folders, verified on every load. Which version serves is in the store.

A version lies in ``<registry>/<stream>/<first 12 digits of its sha256>``. The store keeps that path relative to the
registry, so that the whole folder can move.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Final

import models.api
from models.api import Scorer, Trained
from models.errors import ModelError
from monitor.errors import ConfigError, RegistryError

_TEMPORARY: Final = ".saving-"
_DIGITS: Final = 12


class Registry:
    """Artifacts in a folder.

    Safe for several processes: a version appears complete, by one rename, and is never changed.

    Args:
        uri: The folder, as a path or ``file://`` URI; created with the first version.

    Raises:
        ConfigError: Another kind of URI.
    """

    def __init__(self, uri: str) -> None:
        scheme, separator, path = uri.partition("://")
        if separator and scheme != "file":
            raise ConfigError(
                f"registry.uri: {scheme}:// is not supported yet. Give a folder, such as registry.uri = 'registry'."
            )
        self._root = Path(path if separator else uri).absolute()

    @property
    def root(self) -> Path:
        """The folder."""
        return self._root

    def save(self, stream: str, trained: Trained) -> tuple[str, str]:
        """Store a trained detector.

        1. write it into a temporary sibling, 2. make it durable, 3. rename it to its place.

        Returns:
            Its path relative to the registry, and its sha256: what the store keeps.

        Raises:
            RegistryError: It cannot be written.
        """
        folder = self._inside(stream)
        temporary = folder / f"{_TEMPORARY}{uuid.uuid4().hex}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            sha256 = models.api.save(trained, temporary)  # 1
            _make_durable(temporary)  # 2
            artifact_uri = f"{stream}/{sha256[:_DIGITS]}"
            self._place(temporary, artifact_uri, sha256)  # 3
        except (OSError, ModelError) as error:
            raise RegistryError(
                f"{folder}: the model cannot be stored: {error}. Check space and permissions."
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return artifact_uri, sha256

    def _place(self, temporary: Path, artifact_uri: str, sha256: str) -> None:
        final = self._inside(artifact_uri)
        if final.exists():  # the same training gave the same bytes before
            self.load(artifact_uri, sha256)
            return
        with contextlib.suppress(FileExistsError):  # another process was faster with the same bytes
            temporary.rename(final)
        _sync(final.parent)

    def load(self, artifact_uri: str, sha256: str) -> Scorer:
        """Load and verify a version.

        Raises:
            RegistryError: It is missing, changed, or not readable by this program; the message names file and remedy.
        """
        folder = self._inside(artifact_uri)
        if not folder.is_dir():
            raise RegistryError(
                f"{folder}: this model artifact is missing. Check registry.uri, restore the folder from a backup, or "
                f"promote a version that is there: narrows models promote NUMBER."
            )
        try:
            return models.api.load(folder, sha256=sha256)
        except (OSError, ModelError) as error:
            raise RegistryError(f"{folder}: {error}") from error

    def prune_orphans(
        self, stream: str, *, keep: Collection[str], now: datetime, older_than: timedelta = timedelta(days=1)
    ) -> tuple[str, ...]:
        """Remove the stream's artifacts that no version names, such as those of a run that died before publishing.

        Args:
            stream: Whose artifacts.
            keep: Paths (``artifact_uri``) of all versions in the store.
            now: Current time.
            older_than: Younger ones stay: somebody may be about to publish them.

        Returns:
            Paths that were removed.
        """
        folder, removed = self._inside(stream), []
        for child in sorted(folder.iterdir()) if folder.is_dir() else ():
            artifact_uri = f"{stream}/{child.name}"
            if artifact_uri in keep or not child.is_dir() or now - _changed_at(child) < older_than:
                continue
            shutil.rmtree(child, ignore_errors=True)
            removed.append(artifact_uri)
        return tuple(removed)

    def _inside(self, artifact_uri: str) -> Path:
        """The path within the registry; a row in a database must not lead anywhere else."""
        relative = PurePosixPath(artifact_uri)
        path = self._root / relative
        if relative.is_absolute() or ".." in relative.parts or not path.resolve().is_relative_to(self._root.resolve()):
            raise RegistryError(f"{artifact_uri}: leads out of the registry {self._root}; nothing was read or written.")
        return path


def _changed_at(path: Path) -> datetime:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:  # gone meanwhile
        return datetime.max.replace(tzinfo=UTC)


def _make_durable(folder: Path) -> None:
    """Without it, a power cut could leave a row in the store whose files are empty."""
    for file in folder.iterdir():
        _sync(file)
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
