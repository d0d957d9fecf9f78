"""A deployment for integration tests: a config, a small real champion, and the real command in processes of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import models.api
from models.api import DetectorConfig
from monitor.records import TopicPartition
from monitor.registry import Registry
from monitor.store import Store, open_store

DIMENSION = 4
UNKNOWN = np.array([30, -30, 30, 30], dtype=np.float64)
CENTRES = np.array([[0, 0, 0, 0], [8, 8, 0, 0], [0, 8, 8, -8]], dtype=np.float64)

_CONFIG = """
[store]
url = "{store_url}"
[registry]
uri = "registry"
[kafka]
bootstrap_servers = ["{bootstrap_servers}"]
session_timeout_s = 6
[worker]
reload_interval = "200ms"
[[streams]]
name = "s"
topic = "{topic}"
[streams.schema]
id = "id"
event_time = "ts"
label = "label"
features = "features"
dimension = 4
max_bytes = "1MiB"
[streams.batch]
max_records = {max_records}
[streams.detector]
profile = "fast"
"""


def history(n: int, *, seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Rows of the three known classes and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    return (CENTRES[labels] + rng.normal(0, 1, (n, DIMENSION))).astype(np.float32), labels.astype(str)


def payloads(n: int, *, seed: int, unknown: float = 0.02, broken: float = 0.01) -> list[bytes | None]:
    """A stream: known rows, rows of no class, broken records, and a null value now and then."""
    rng = np.random.default_rng(seed)
    x, labels = history(n, seed=seed)
    kinds = rng.random(n)
    values: list[bytes | None] = []
    for i in range(n):
        if kinds[i] < broken:
            values.append((b"{", b"\xff\x00", b'{"id": 1}')[int(rng.integers(3))])
            continue
        if kinds[i] < 1.2 * broken:
            values.append(None)
            continue
        odd = kinds[i] > 1 - unknown
        row = rng.normal(0, 1, DIMENSION) + UNKNOWN if odd else x[i]
        label = None if odd else str(labels[i])
        record = {"id": f"r{i}", "ts": 1_700_000_000 + i, "label": label, "features": [float(v) for v in row]}
        values.append(json.dumps(record).encode())
    return values


@dataclass(frozen=True)
class Champion:
    """A trained detector in a registry, to be copied; and its first thresholds."""

    registry: Path
    artifact_uri: str
    sha256: str
    trained: models.api.Trained


def train_champion(folder: Path) -> Champion:
    """Train once for all tests."""
    x, y = history(900, seed=1)
    config = DetectorConfig(profile="fast", embedding_dim=8, epochs=8)
    trained = models.api.fit(x, y, config=config, seed=0)
    uri, sha256 = Registry(str(folder / "registry")).save("s", trained)
    return Champion(folder / "registry", uri, sha256, trained)


class Deployment:
    """A folder as a user has it."""

    def __init__(
        self, folder: Path, *, store_url: str, bootstrap_servers: str, topic: str, max_records: int = 200
    ) -> None:
        self.folder = folder
        self.config = folder / "narrows.toml"
        self.store_url = store_url
        folder.mkdir(parents=True, exist_ok=True)
        self.config.write_text(
            _CONFIG.format(
                store_url=store_url, bootstrap_servers=bootstrap_servers, topic=topic, max_records=max_records
            )
        )

    def publish(self, champion: Champion) -> None:
        """What ``narrows train`` does, without the training."""
        shutil.copytree(champion.registry, self.folder / "registry")
        with self.store() as store:
            card = champion.trained.scorer.card
            store.models.publish(
                stream="s", artifact_uri=champion.artifact_uri, sha256=champion.sha256, classes=card.classes,
                n_train=card.n_train, n_calibration=card.n_calibration, metrics=dict(card.metrics),
                thresholds=champion.trained.thresholds, now=store.pipeline._now(), who="test",
            )  # fmt: skip

    @contextmanager
    def store(self) -> Iterator[Store]:
        """The store, open."""
        with open_store(self.store_url, create=True) as store:
            yield store

    def offsets(self) -> dict[TopicPartition, int]:
        """Stored progress."""
        with self.store() as store:
            return store.pipeline.next_offsets("s")

    def results(self) -> dict[str, list[tuple[Any, ...]]]:
        """All that must be as in an undisturbed run."""
        queries = {
            "anomalies": "SELECT topic, partition, record_offset, sample_id, score, threshold, p_value, nearest_class, "
            "severity FROM anomalies ORDER BY 1, 2, 3",
            "dead_letters": "SELECT topic, partition, record_offset, reason FROM dead_letters ORDER BY 1, 2, 3",
            "offsets": "SELECT topic, partition, next_offset FROM offsets ORDER BY 1, 2",
            "counts": "SELECT sum(n_records), sum(n_anomalies), sum(n_invalid), sum(n_tombstones) FROM window_stats",
            "incidents": "SELECT sum(anomaly_count) FROM incidents",
        }
        return {name: self.query(query) for name, query in queries.items()}

    def query(self, query: str) -> list[tuple[Any, ...]]:
        """Rows, as an analyst would ask for them."""
        import sqlalchemy as sa  # noqa: PLC0415

        engine = sa.create_engine(self.store_url)
        try:
            with engine.connect() as connection:
                return [tuple(row) for row in connection.execute(sa.text(query))]
        finally:
            engine.dispose()

    def narrows(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.command(*arguments), check=check, capture_output=True, text=True, env=clean_environment(), timeout=240
        )

    def start(self, *arguments: str) -> Running:
        """Start a command; its log goes to a file."""
        log = self.folder / f"log-{time.monotonic_ns()}.txt"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                self.command(*arguments), stdout=sink, stderr=sink, env=clean_environment(), start_new_session=True
            )
        return Running(process, log)

    def command(self, *arguments: str) -> list[str]:
        """The command line."""
        return [sys.executable, "-m", "monitor.cli", "--config", str(self.config), *arguments]


@dataclass(frozen=True)
class Running:
    """A command that runs."""

    process: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """SIGKILL, to all its processes."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self, *, timeout_s: float = 15.0) -> int:
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=timeout_s)

    def wait(self, *, timeout_s: float = 120.0) -> int:
        """The exit status, once it ends by itself."""
        return self.process.wait(timeout=timeout_s)

    def text(self) -> str:
        """What it said so far."""
        return self.log.read_text(errors="replace")


def clean_environment() -> dict[str, str]:
    """Ours, without settings of Narrows."""
    wins = ("NARROWS_", "KAFKA_BOOTSTRAP_SERVERS")
    return {name: value for name, value in os.environ.items() if not name.startswith(wins)}


def eventually(condition: Callable[[], bool], *, timeout_s: float = 60.0, what: str = "it") -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {timeout_s:.0f} s"
        time.sleep(0.05)


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has reaped yet counts as ended."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
