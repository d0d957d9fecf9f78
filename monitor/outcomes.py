"""Decoded and scored records to the rows that follow from them. Pure: no I/O, time is an argument."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.api import Scores
from monitor.champion import Champion, Judgement
from monitor.decoding import DecodedSlice, as_text, dead_letter
from monitor.event_time import to_datetime
from monitor.records import Anomaly, PartitionOutcome, RawRecord, Sample
from monitor.sampling import choose, reservoir_keys

#: Features named in an explanation; the others together are one number.
_TOP_FEATURES = 5
#: Lower bounds of score / threshold; a record just past the boundary is "low".
_SEVERITIES = ((2.0, "critical"), (1.5, "high"), (1.2, "medium"))


def severity(score_ratio: float) -> str:
    """Word for how far past its threshold a record lies."""
    return next((word for bound, word in _SEVERITIES if score_ratio >= bound), "low")


def outcome(
    decoded: DecodedSlice,
    scores: Scores,
    champion: Champion,
    *,
    expected: int,
    lag: int,
    now: datetime,
    max_samples: int,
    max_payload_bytes: int,
) -> PartitionOutcome:
    """All rows that one slice leads to.

    Args:
        decoded: The slice as vectors, n rows.
        scores: Scores of the n rows.
        champion: Who judges.
        expected: Offset that the store holds for the partition.
        lag: Records behind the end of the partition after this slice.
        now: Time of detection.
        max_samples: Most records of this slice to keep as samples.
        max_payload_bytes: Longest payload of a dead letter.
    """
    judgement = champion.judge(scores)
    partition = decoded.source.partition
    return PartitionOutcome(
        partition=partition,
        expected=expected,
        next_offset=decoded.source.next_offset,
        n_records=len(decoded.records),
        n_tombstones=decoded.n_tombstones,
        scores=scores.score,
        latencies_s=_latencies(decoded.records, now),
        lag=lag,
        anomalies=_anomalies(decoded, scores, champion, judgement, now=now),
        dead_letters=tuple(
            dead_letter(partition, rejected, max_payload_bytes=max_payload_bytes) for rejected in decoded.rejected
        ),
        samples=_samples(decoded, scores, champion, judgement, now=now, limit=max_samples),
    )


def _latencies(records: Sequence[RawRecord], now: datetime) -> NDArray[np.float64]:
    sent_ms = np.array([record.timestamp for record in records], dtype=np.float64)
    return np.clip(now.timestamp() - sent_ms / 1000.0, 0.0, None)


def _anomalies(
    decoded: DecodedSlice, scores: Scores, champion: Champion, judgement: Judgement, *, now: datetime
) -> tuple[Anomaly, ...]:
    rows = judgement.flagged
    if not len(rows):
        return ()
    flagged = Scores(scores.score[rows], scores.nearest[rows])
    p_values = champion.p_values(flagged)
    contributions = champion.scorer.explain(decoded.x[rows], flagged.nearest)
    return tuple(
        _anomaly(decoded, scores, champion, judgement, row=int(row), now=now, p_value=float(p_value), parts=parts)
        for row, p_value, parts in zip(rows, p_values, contributions, strict=True)
    )


def _anomaly(
    decoded: DecodedSlice,
    scores: Scores,
    champion: Champion,
    judgement: Judgement,
    *,
    row: int,
    now: datetime,
    p_value: float,
    parts: NDArray[np.float64],
) -> Anomaly:
    record, nearest = decoded.records[row], int(scores.nearest[row])
    score, threshold = float(scores.score[row]), float(judgement.thresholds[row])
    nearest_class, ratio = champion.classes[nearest], score / threshold
    return Anomaly(
        partition=decoded.source.partition,
        record_offset=record.offset,
        record_key=None if record.key is None else record.key.decode("utf-8", "backslashreplace"),
        sample_id=as_text(decoded.sample_ids[row]),
        event_time=to_datetime(decoded.event_times_s[row]),
        detected_at=now,
        score=score,
        threshold=threshold,
        score_ratio=ratio,
        p_value=p_value,
        severity=severity(ratio),
        nearest_class=nearest_class,
        label=as_text(decoded.labels[row]),
        model_version_id=champion.model_version_id,
        threshold_id=champion.threshold_ids[nearest],
        features=decoded.x[row],
        explanation=explanation(decoded.x[row], parts, nearest_class=nearest_class, score=score, threshold=threshold),
        # Like anomalies leave the same known class in the same direction.
        fingerprint=f"{nearest_class}/{int(np.argmax(parts))}",
    )


def explanation(
    features: NDArray[np.float32],
    contributions: NDArray[np.float64],
    *,
    nearest_class: str,
    score: float,
    threshold: float,
) -> Mapping[str, Any]:
    """Why a record was flagged, as JSON: nearest class, distance, and the features that carry the score's excess."""
    top = np.argsort(-contributions)[:_TOP_FEATURES]
    return {
        "nearest_class": nearest_class,
        "distance": score,
        "ratio": score / threshold,
        "features": [
            {"feature": int(i), "value": float(features[i]), "contribution": float(contributions[i])} for i in top
        ],
        "other_features": float(contributions.sum() - contributions[top].sum()),
    }


def _samples(
    decoded: DecodedSlice, scores: Scores, champion: Champion, judgement: Judgement, *, now: datetime, limit: int
) -> tuple[Sample, ...]:
    if not limit or not decoded.records:
        return ()
    partition, flagged = decoded.source.partition, set(judgement.flagged.tolist())
    offsets = np.array([record.offset for record in decoded.records], dtype=np.int64)
    keys = reservoir_keys(partition, offsets)
    return tuple(
        Sample(
            partition=partition,
            record_offset=int(offsets[row]),
            sample_id=as_text(decoded.sample_ids[row]),
            event_time=to_datetime(decoded.event_times_s[row]),
            kept_at=now,
            features=decoded.x[row],
            label=as_text(decoded.labels[row]),
            predicted_class=champion.classes[int(scores.nearest[row])],
            score=float(scores.score[row]),
            flagged=row in flagged,
            reservoir_key=float(keys[row]),
        )
        for row in choose(keys, limit=limit).tolist()
    )
