"""Results of the pipeline as rows of their tables. Pure; nothing is executed here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from monitor.records import Anomaly, DeadLetter, Sample
from monitor.store.column_types import clean_text

Row = dict[str, Any]


def anomaly_rows(stream: str, anomalies: Iterable[Anomaly], incident_ids: Mapping[str, int]) -> list[Row]:
    """Rows of ``anomalies``; ``incident_ids`` by cleaned fingerprint."""
    return [
        {
            "stream": stream,
            "topic": anomaly.partition.topic,
            "partition": anomaly.partition.partition,
            "record_offset": anomaly.record_offset,
            "record_key": anomaly.record_key,
            "sample_id": anomaly.sample_id,
            "event_time": anomaly.event_time,
            "detected_at": anomaly.detected_at,
            "score": anomaly.score,
            "threshold": anomaly.threshold,
            "score_ratio": anomaly.score_ratio,
            "p_value": anomaly.p_value,
            "severity": anomaly.severity,
            "nearest_class": anomaly.nearest_class,
            "label": anomaly.label,
            "model_version_id": anomaly.model_version_id,
            "threshold_id": anomaly.threshold_id,
            "features": anomaly.features,
            "explanation": anomaly.explanation,
            "incident_id": incident_ids[clean_text(anomaly.fingerprint)],
        }
        for anomaly in anomalies
    ]


def dead_letter_rows(stream: str, letters: Iterable[DeadLetter], *, now: datetime) -> list[Row]:
    """Rows of ``dead_letters``."""
    return [
        {
            "stream": stream,
            "topic": letter.partition.topic,
            "partition": letter.partition.partition,
            "record_offset": letter.record_offset,
            "reason": letter.reason,
            "detail": letter.detail,
            "error_class": letter.error_class,
            "record_key": letter.key,
            "payload": letter.payload,
            "payload_size": letter.payload_size,
            "headers": letter.headers,
            "record_time": letter.record_time,
            "created_at": now,
        }
        for letter in letters
    ]


def sample_rows(stream: str, samples: Iterable[Sample]) -> list[Row]:
    """Rows of ``samples``."""
    return [
        {
            "stream": stream,
            "topic": sample.partition.topic,
            "partition": sample.partition.partition,
            "record_offset": sample.record_offset,
            "sample_id": sample.sample_id,
            "event_time": sample.event_time,
            "kept_at": sample.kept_at,
            "features": sample.features,
            "label": sample.label,
            "predicted_class": sample.predicted_class,
            "score": sample.score,
            "flagged": sample.flagged,
            "reservoir_key": sample.reservoir_key,
        }
        for sample in samples
    ]
