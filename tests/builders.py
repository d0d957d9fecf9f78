"""Small valid things for tests: a stream, records, a champion whose scores can be worked out by hand."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from typing import Any

import numpy as np

from models.api import DetectorConfig, FloatArray, IntArray, ModelCard, Scores, ThresholdSpec
from monitor.champion import Champion
from monitor.metrics import Counter, Gauge, Histogram
from monitor.settings_streams import RecordSchema, StreamSettings
from monitor.store import Store

SCHEMA: dict[str, Any] = {"dimension": 2, "id": "id", "event_time": "ts", "label": "label", "features": "x"}


def schema(**changes: Any) -> RecordSchema:
    """Two features under ``x``; id, ts and label."""
    return RecordSchema(**(SCHEMA | changes))


def stream(**changes: Any) -> StreamSettings:
    """A stream ``s`` on topic ``numbers``."""
    return StreamSettings(**({"name": "s", "topic": "numbers", "schema": SCHEMA} | changes))


def payload(x: list[Any], **changes: Any) -> bytes:
    """A valid record of that stream, as JSON."""
    return json.dumps({"id": "a", "ts": 1_700_000_000.5, "label": "low", "x": x} | changes).encode()


class LineScorer:
    """Two classes on a line: "low" around (0, 0), "high" around (10, 10); the score is 1 + the distance."""

    centres = np.array([[0.0, 0.0], [10.0, 10.0]])

    def __init__(self) -> None:
        self.card = ModelCard(
            format_version=1, classes=("low", "high"), dimension=2, config=DetectorConfig(), seed=0, n_train=4,
            n_calibration=4,
        )  # fmt: skip
        self.batches: list[int] = []

    def score(self, x: FloatArray) -> Scores:
        """1 + Euclidean distance to the nearest centre."""
        self.batches.append(len(x))
        distances = np.linalg.norm(x[:, None, :].astype(np.float64) - self.centres, axis=2)
        nearest = distances.argmin(axis=1).astype(np.int64)
        return Scores(1.0 + distances.min(axis=1), nearest)

    def explain(self, x: FloatArray, nearest: IntArray) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Absolute difference to the centre, feature by feature."""
        return np.abs(x.astype(np.float64) - self.centres[nearest])


def threshold(label: str, value: float) -> ThresholdSpec:
    """A threshold with ten calibration scores below it."""
    return ThresholdSpec(label, value, 0.1, 10, "conformal", np.linspace(0.5, value, 10))


def specs(values: tuple[float, float] = (3.0, 2.0)) -> tuple[ThresholdSpec, ThresholdSpec]:
    """Thresholds: "low" flags beyond a distance of 2, "high" beyond 1."""
    return threshold("low", values[0]), threshold("high", values[1])


def champion(*, scorer: Any = None, version_id: int = 70, threshold_ids: tuple[int, ...] = (701, 702)) -> Champion:
    """Version 7 on the line."""
    return Champion(version_id, 7, scorer or LineScorer(), threshold_ids, specs())


def publish_champion(store: Store) -> Champion:
    """The same champion as rows of a store; there is no artifact."""
    now = datetime(2023, 11, 1, tzinfo=UTC)
    version = store.models.publish(
        stream="s", artifact_uri="s/none", sha256="0" * 64, classes=("low", "high"), n_train=4, n_calibration=4,
        metrics={}, thresholds=specs(), now=now, who="test",
    )  # fmt: skip
    ids = tuple(row.id for row in store.models.thresholds(version.id))
    return champion(version_id=version.id, threshold_ids=ids)


class FakeClock:
    """Time that moves when told to, or by sleeping."""

    def __init__(self) -> None:
        self.seconds = 1_700_000_100.0
        self.slept: list[float] = []
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """Wall clock."""
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        """Seconds."""
        return self.seconds

    def sleep(self, seconds: float) -> None:
        """Move on."""
        with self._lock:
            self.slept.append(seconds)
            self.seconds += seconds


class RecordedMetrics:
    """Measurements that a test can look at: sums of counters, last values of gauges."""

    def __init__(self) -> None:
        self.counted: dict[tuple[str, ...], float] = {}
        self.gauges: dict[tuple[str, ...], float] = {}
        self.observed: dict[tuple[str, ...], list[float]] = {}

    def increment(self, counter: Counter, amount: float = 1, *, stream: str, **labels: str) -> None:
        """Add up."""
        key = (counter.name, stream, *labels.values())
        self.counted[key] = self.counted.get(key, 0) + amount

    def set(self, gauge: Gauge, value: float, *, stream: str, **labels: str) -> None:
        """Keep the last."""
        self.gauges[(gauge.name, stream, *labels.values())] = value

    def observe(self, histogram: Histogram, value: float, *, stream: str, **labels: str) -> None:
        """Keep all."""
        self.observed.setdefault((histogram.name, stream, *labels.values()), []).append(value)
