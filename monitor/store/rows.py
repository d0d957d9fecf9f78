"""What the repositories return: frozen values, never rows of the database's own kind. No queries here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.api import ThresholdSpec


@dataclass(frozen=True, slots=True)
class StreamRow:
    """A configured stream.

    Attributes:
        config_fingerprint: Hash of the settings that it was last seen with.
        created_at: When it was first seen.
        updated_at: When its topic or its settings last changed.
    """

    name: str
    topic: str
    config_fingerprint: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A trained encoder as the store knows it.

    Attributes:
        number: Counts from 1 within the stream, without gaps.
        alias: ``"champion"`` (scores now), ``"candidate"`` (waits for the gate or a person), or None.
        status: ``"ready"``, ``"retired"`` (was champion or candidate) or ``"rejected"`` (the gate or a person said no).
        artifact_uri: Where its files are.
        sha256: Hash that they must have.
        parent_id: Version that it was trained from or judged against.
        classes: Known classes, in the order of the scorer.
        trained_from: Event time of the oldest training row, where rows have one.
        trained_to: Event time of the newest training row.
        metrics: Figures measured on rows held out in training.
        note: Why it has its status.
    """

    id: int
    stream: str
    number: int
    alias: str | None
    status: str
    artifact_uri: str
    sha256: str
    parent_id: int | None
    classes: tuple[str, ...]
    n_train: int
    n_calibration: int
    trained_from: datetime | None
    trained_to: datetime | None
    metrics: Mapping[str, Any]
    note: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Threshold:
    """A threshold as it was set; it is never changed, only followed by a newer one of the same class.

    Attributes:
        alpha: False-alarm rate that it aims at, a fraction.
        method: ``"conformal"``, ``"conformal-pooled"`` or what a person wrote.
        source: ``"training"``, ``"recalibration"``, ``"manual"`` or ``"rollback"``.
        cause: Why it was set, where somebody said so.
        calibration_scores: Sorted scores behind it, float64 (m,); may be empty.
    """

    id: int
    model_version_id: int
    class_label: str
    value: float
    alpha: float
    n_calibration: int
    method: str
    source: str
    cause: str | None
    valid_from: datetime
    calibration_scores: NDArray[np.float64] = field(compare=False, repr=False)

    def spec(self) -> ThresholdSpec:
        """The same as the science takes it."""
        names = ("class_label", "value", "alpha", "n_calibration", "method", "calibration_scores")
        return ThresholdSpec(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change by a person or a job.

    Attributes:
        what: Subject and verb, such as ``"model.promote"``.
        before: State that the change found.
        after: State that it left.
        reason: In the words of who did it.
    """

    id: int
    stream: str | None
    who: str
    what: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    reason: str | None
    when: datetime


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to do a job, as its holder keeps it.

    Attributes:
        token: Grows with every change of holder; a write that carries an older one is refused.
        expires_at: Others may take the lease from then on.
    """

    name: str
    holder: str
    token: int
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """A lease as the store shows it to anybody; it gives no right to write.

    Attributes:
        expires_at: In the past: free, whoever held it last.
    """

    name: str
    holder: str
    token: int
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class JobRun:
    """One run of a scheduled job.

    Attributes:
        status: ``"running"``, ``"succeeded"``, ``"failed"``, ``"rejected"`` or ``"skipped"``.
        detail: What it did, or why it failed.
        holder: Process that ran it, ``host:pid``.
    """

    id: int
    job: str
    stream: str | None
    started_at: datetime
    finished_at: datetime | None
    status: str
    detail: Mapping[str, Any]
    holder: str


@dataclass(frozen=True, slots=True, eq=False)
class SampleSet:
    """Kept samples as arrays, row by row.

    Attributes:
        x: Features, float32 (n, D).
        labels: Label of each row, None where nobody gave one.
        predicted: Nearest class when the row was scored.
        scores: Score when the row was scored, float64 (n,); NaN for rows of a training file.
        event_times: Time of the event, UTC.
        flagged: Whether the row was flagged when it was scored, bool (n,).
        verdicts: Newest verdict of an analyst on the row, None without one.
    """

    x: NDArray[np.float32]
    labels: tuple[str | None, ...]
    predicted: tuple[str, ...]
    scores: NDArray[np.float64]
    event_times: tuple[datetime, ...]
    flagged: NDArray[np.bool_]
    verdicts: tuple[str | None, ...]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class AnomalyRow:
    """A flagged record with all that explains it.

    Attributes:
        score_ratio: Score over threshold; 1.0 is the boundary.
        model_version: Number of the version that flagged it, within its stream.
        features: The record's features, float32 (D,).
        explanation: What the detector said about it.
        incident_id: Group that it belongs to.
        verdict: Newest verdict on it, or else on its incident, where an analyst gave one.
    """

    id: int
    stream: str
    topic: str
    partition: int
    record_offset: int
    record_key: str | None
    sample_id: str | None
    event_time: datetime
    detected_at: datetime
    score: float
    threshold: float
    score_ratio: float
    p_value: float
    severity: str
    nearest_class: str
    label: str | None
    model_version: int
    threshold_id: int
    features: NDArray[np.float32] = field(compare=False, repr=False)
    explanation: Mapping[str, Any]
    incident_id: int | None
    verdict: str | None


@dataclass(frozen=True, slots=True)
class IncidentRow:
    """A group of like anomalies.

    Attributes:
        fingerprint: What its anomalies have in common.
        status: ``"open"``, ``"acknowledged"``, ``"snoozed"`` or ``"resolved"``.
        severity: That of its worst anomaly.
        max_score_ratio: Largest score over threshold.
        first_seen: Event time of its first anomaly.
        last_seen: Event time of its last anomaly.
        anomaly_count: Anomalies counted into it, also those that retention has removed since.
        snoozed_until: End of the silence, for ``"snoozed"``.
        updated_at: When an anomaly last joined, or a person last acted.
    """

    id: int
    stream: str
    fingerprint: str
    status: str
    severity: str
    nearest_class: str
    max_score_ratio: float
    first_seen: datetime
    last_seen: datetime
    anomaly_count: int
    assignee: str | None
    snoozed_until: datetime | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class DeadLetterRow:
    """A record that could not be scored.

    Attributes:
        detail: One line for people.
        payload: Raw value, cut at the configured size.
        payload_size: Full size in bytes; greater than ``len(payload)`` means cut.
        headers: Raw headers in order.
        record_time: Kafka timestamp, UTC.
        redriven_at: When it was replayed with success; None while it waits.
    """

    id: int
    stream: str
    topic: str
    partition: int
    record_offset: int
    reason: str
    detail: str
    error_class: str
    key: bytes | None
    payload: bytes
    payload_size: int
    headers: tuple[tuple[str, bytes | None], ...]
    record_time: datetime | None
    created_at: datetime
    redriven_at: datetime | None
