"""What the benchmarks run on: a seeded workload, topics filled with it, and a trained deployment to score it."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monitor.local.producer import send_all
from monitor.local.topics import create_topic

DIMENSION = 64
CLASSES = 10
ANOMALY_SHARE = 0.01
#: Distinct payloads; repeating them saves minutes of preparation and costs the consumer the same work.
_DISTINCT = 5000


@dataclass(frozen=True)
class Deployment:
    """A config file with a champion that knows the workload's classes."""

    config: Path
    topic: str


def rows(rng: np.random.Generator, n: int, *, centres: NDArray[np.float64]) -> tuple[NDArray[np.float32], list[str]]:
    """Rows of the known classes: Gaussian around their centres."""
    labels = rng.integers(0, CLASSES, n)
    x = centres[labels] + rng.normal(0, 1, (n, DIMENSION))
    return x.astype(np.float32), [f"class-{label}" for label in labels]


def centres(rng: np.random.Generator) -> NDArray[np.float64]:
    """One centre a class, a few standard deviations apart."""
    return rng.normal(0, 2, (CLASSES, DIMENSION))


def payloads(*, seed: int) -> list[bytes]:
    """JSON records with 64 numbers, one in a hundred from no class."""
    rng = np.random.default_rng(seed)
    known = centres(np.random.default_rng(0))
    x, labels = rows(rng, _DISTINCT, centres=known)
    odd = rng.random(_DISTINCT) < ANOMALY_SHARE
    x[odd] = rng.normal(0, 5, (int(odd.sum()), DIMENSION))
    return [
        json.dumps(
            {"id": f"s{i}", "ts": 1_700_000_000 + i, "label": labels[i], "features": [round(float(v), 5) for v in row]}
        ).encode()
        for i, row in enumerate(x)
    ]


def fill_topic(bootstrap_servers: str, *, records: int, seed: int) -> str:
    """A fresh topic of one partition with that many records."""
    name = f"bench-{records}-{uuid.uuid4().hex[:6]}"
    create_topic(bootstrap_servers, name=name)
    values = payloads(seed=seed)
    send_all(bootstrap_servers, topic=name, values=(values[i % len(values)] for i in range(records)))
    return name


def deploy(
    folder: Path, *, bootstrap_servers: str, topic: str, profile: str, store_url: str | None = None
) -> Deployment:
    """Write a config for the topic and train its champion with the command line, as a user would."""
    folder.mkdir(parents=True)
    config = folder / "narrows.toml"
    config.write_text(
        f"""
[store]
url = "{store_url or "sqlite:///narrows.db"}"
[kafka]
bootstrap_servers = ["{bootstrap_servers}"]
[[streams]]
name = "bench"
topic = "{topic}"
[streams.schema]
id = "id"
event_time = "ts"
label = "label"
features = "features"
dimension = {DIMENSION}
[streams.detector]
profile = "{profile}"
"""
    )
    rng = np.random.default_rng(1)
    x, labels = rows(rng, 8000, centres=centres(np.random.default_rng(0)))
    np.savez(folder / "history.npz", X=x, y=np.array(labels))
    narrows(config, "train", str(folder / "history.npz"), "--json")
    return Deployment(config, topic)


def narrows(config: Path, *arguments: str) -> str:
    """Run the command; its output."""
    command = [sys.executable, "-m", "monitor.cli", "--config", str(config), *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
