"""Small valid outcomes for tests of the store, and the rows that they must lead to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import sqlalchemy as sa

from monitor.records import Anomaly, BatchOutcome, DeadLetter, PartitionOutcome, Sample, TopicPartition
from monitor.store import Store
from monitor.store.tables import metadata, model_versions, thresholds

P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)
NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
MINUTE = NOW.replace(second=0, microsecond=0)


def anomaly(offset: int, *, partition: TopicPartition = P0, **changes: Any) -> Anomaly:
    """A flagged record, one second of event time an offset."""
    values: dict[str, Any] = {
        "partition": partition,
        "record_offset": offset,
        "record_key": None,
        "sample_id": f"s{offset}",
        "event_time": NOW + timedelta(seconds=offset),
        "detected_at": NOW,
        "score": 3.0,
        "threshold": 2.0,
        "score_ratio": 1.5,
        "p_value": 0.01,
        "severity": "high",
        "nearest_class": "low",
        "label": None,
        "model_version_id": 1,
        "threshold_id": 1,
        "features": np.array([1.5, -2.25], dtype=np.float32),
        "explanation": {"nearest_class": "low"},
        "fingerprint": "low/0",
    }
    return Anomaly(**(values | changes))


def dead_letter(offset: int, *, partition: TopicPartition = P0, **changes: Any) -> DeadLetter:
    """A record that is no JSON."""
    values: dict[str, Any] = {
        "partition": partition,
        "record_offset": offset,
        "reason": "invalid-json",
        "detail": "line 1",
        "error_class": "DecodeError",
        "key": b"k",
        "payload": b"{",
        "payload_size": 1,
        "headers": (("trace", b"abc"),),
        "record_time": NOW,
    }
    return DeadLetter(**(values | changes))


def sample(offset: int, *, partition: TopicPartition = P0, **changes: Any) -> Sample:
    """A kept record."""
    values: dict[str, Any] = {
        "partition": partition,
        "record_offset": offset,
        "sample_id": f"s{offset}",
        "event_time": NOW,
        "kept_at": NOW,
        "features": np.array([0.5, 0.25], dtype=np.float32),
        "label": None,
        "predicted_class": "low",
        "score": 1.0,
        "flagged": False,
        "reservoir_key": 0.5,
    }
    return Sample(**(values | changes))


def part(
    expected: int,
    next_offset: int,
    *,
    partition: TopicPartition = P0,
    anomalies: Sequence[Anomaly] = (),
    dead_letters: Sequence[DeadLetter] = (),
    samples: Sequence[Sample] = (),
    scores: Sequence[float] = (1.0, 2.0, 3.0),
    lag: int = 7,
) -> PartitionOutcome:
    """Outcome of three records unless told otherwise."""
    return PartitionOutcome(
        partition=partition,
        expected=expected,
        next_offset=next_offset,
        n_records=len(scores),
        n_tombstones=1,
        scores=np.array(scores, dtype=np.float64),
        latencies_s=np.full(len(scores), 0.25),
        lag=lag,
        anomalies=tuple(anomalies),
        dead_letters=tuple(dead_letters),
        samples=tuple(samples),
    )


def outcome(*parts: PartitionOutcome, stream: str = "s", window_start: datetime = MINUTE) -> BatchOutcome:
    """One transaction."""
    return BatchOutcome(stream, window_start, parts)


def full_outcome() -> BatchOutcome:
    """Something for every step, on two partitions."""
    return outcome(
        part(0, 10, anomalies=[anomaly(1), anomaly(2)], dead_letters=[dead_letter(3)], samples=[sample(4)]),
        part(
            5,
            9,
            partition=P1,
            anomalies=[anomaly(6, partition=P1, fingerprint="high/1")],
            dead_letters=[dead_letter(7, partition=P1)],
            samples=[sample(8, partition=P1)],
        ),
    )


def add_model(store: Store, *, stream: str = "s") -> None:
    """The version 1 and the threshold 1 that the anomalies name."""
    version = {
        "id": 1, "stream": stream, "number": 1, "alias": "champion", "status": "ready", "artifact_uri": "a",
        "sha256": "0", "parent_id": None, "classes": ["low", "high"], "n_train": 4, "n_calibration": 4,
        "metrics": {}, "created_at": NOW,
    }  # fmt: skip
    threshold = {
        "id": 1, "model_version_id": 1, "class_label": "low", "value": 2.0, "alpha": 0.1, "n_calibration": 4,
        "method": "conformal", "source": "training", "valid_from": NOW, "calibration_scores": np.array([1.0, 2.0]),
    }  # fmt: skip
    with store.database.write() as connection:
        connection.execute(sa.insert(model_versions), version)
        connection.execute(sa.insert(thresholds), threshold)


def rows(store: Store, table: sa.Table) -> list[dict[str, Any]]:
    """All rows in the order of the primary key, arrays as lists so that they can be compared."""
    with store.database.read() as connection:
        found = connection.execute(sa.select(table).order_by(*table.primary_key.columns)).mappings().all()
    return [{name: _plain(value) for name, value in row.items()} for row in found]


def everything(store: Store) -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables."""
    return {table.name: rows(store, table) for table in metadata.sorted_tables}


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value
