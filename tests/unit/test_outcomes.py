"""Outcomes: what a scored slice leads to, worked out by hand on a line."""

from datetime import UTC, datetime

import pytest

from monitor.decoding import Decoder
from monitor.outcomes import outcome, severity
from monitor.records import PartitionOutcome, PartitionSlice, TopicPartition
from tests.builders import champion, payload, schema
from tests.fake_kafka import FakeRecord

PARTITION = TopicPartition("numbers", 0)
NOW = datetime(2023, 11, 14, 22, 15, tzinfo=UTC)


def judged(values: list[bytes | None], *, max_samples: int = 100) -> PartitionOutcome:
    """Decode, score and judge values at offsets 10, 11, ... ."""
    records = [FakeRecord(10 + i, value, key=b"k\xff") for i, value in enumerate(values)]
    decoded = Decoder(schema()).decode(PartitionSlice(PARTITION, records, 10 + len(records)))
    who = champion()
    return outcome(
        decoded, who.scorer.score(decoded.x), who,
        expected=10, lag=3, now=NOW, max_samples=max_samples, max_payload_bytes=100,
    )  # fmt: skip


def test_outcome_flags_by_the_threshold_of_the_nearest_class() -> None:
    """The same distance of 1.5 passes at "low" (threshold 3) and is flagged at "high" (threshold 2)."""
    found = judged([payload([1.5, 0]), payload([10, 11.5], id=5, label="high")])
    (anomaly,) = found.anomalies
    assert (anomaly.record_offset, anomaly.nearest_class, anomaly.score, anomaly.threshold) == (11, "high", 2.5, 2.0)
    assert (anomaly.score_ratio, anomaly.severity, anomaly.p_value) == (1.25, "medium", pytest.approx(1 / 11))
    assert (anomaly.model_version_id, anomaly.threshold_id) == (70, 702)
    assert (anomaly.sample_id, anomaly.label, anomaly.record_key) == ("5", "high", "k\\xff")
    assert anomaly.detected_at == NOW
    assert anomaly.event_time.timestamp() == 1_700_000_000.5
    assert anomaly.features.tolist() == [10.0, 11.5]


def test_outcome_explains_with_the_features_that_carry_the_excess() -> None:
    """Nearest class, distance, ratio, and features by contribution."""
    (anomaly,) = judged([payload([0, 4])]).anomalies
    assert anomaly.explanation == {
        "nearest_class": "low", "distance": 5.0, "ratio": 5.0 / 3.0,
        "features": [
            {"feature": 1, "value": 4.0, "contribution": 4.0}, {"feature": 0, "value": 0.0, "contribution": 0.0},
        ],
        "other_features": 0.0,
    }  # fmt: skip
    assert anomaly.fingerprint == "low/1"


def test_outcome_counts_everything_and_moves_the_offset() -> None:
    """Scored, invalid and null records; the next offset is the slice's."""
    found = judged([payload([0, 0]), b"{", None, payload([0, 9])])
    assert (found.n_records, len(found.dead_letters), found.n_tombstones, len(found.anomalies)) == (2, 1, 1, 1)
    assert (found.expected, found.next_offset, found.lag) == (10, 14, 3)
    assert found.scores.tolist() == [1.0, 10.0]
    assert (found.latencies_s == (NOW.timestamp() - 1_700_000_000)).all()


def test_outcome_keeps_samples_up_to_the_limit() -> None:
    """Flagged ones too, at their natural share, with label, prediction and score."""
    values = [payload([i % 3, 0], id=i) for i in range(30)]
    assert len(judged(values).samples) == 30
    kept = judged(values, max_samples=7).samples
    assert len(kept) == 7
    assert max(sample.reservoir_key for sample in kept) < 0.6
    (sample,) = judged([payload([0, 4], label=3)]).samples
    assert (sample.label, sample.predicted_class, sample.score, sample.flagged) == ("3", "low", 5.0, True)
    assert judged(values, max_samples=0).samples == ()


@pytest.mark.parametrize(
    ("ratio", "word"), [(1.01, "low"), (1.2, "medium"), (1.49, "medium"), (1.5, "high"), (2.0, "critical")]
)
def test_severity_grows_with_the_ratio(ratio: float, word: str) -> None:
    """Bounds are inclusive."""
    assert severity(ratio) == word
