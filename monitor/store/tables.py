"""All tables, their keys and indexes. Analysts depend on the names of tables and columns. No queries here.

Of the times, some are the data's (``event_time``, ``record_time``, ``first_seen``); the others are the program's.
A changed line here needs a migration; a test compares the two.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from monitor.store.column_types import BigId, Float32Array, Float64Array, Json, RecordHeaders, SafeText, UtcDateTime

metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

#: From mild to grave; an incident is as severe as its worst anomaly.
SEVERITIES = ("low", "medium", "high", "critical")
INCIDENT_STATUSES = ("open", "acknowledged", "snoozed", "resolved")
VERDICTS = ("anomaly", "expected", "not_anomaly", "new_normal")
#: Verdicts that call the alert a false one.
FALSE_ALARM_VERDICTS = ("expected", "not_anomaly", "new_normal")


def _id() -> sa.Column[int]:
    return sa.Column("id", BigId, primary_key=True, autoincrement=True)


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, SafeText, nullable=nullable)


def _time(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, UtcDateTime, nullable=nullable)


def _number(name: str, *, nullable: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=nullable)


def _count(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=nullable)


def _json(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, Json, nullable=nullable)


def _position() -> list[sa.Column[Any]]:
    """Identity of a record: the same on every replay."""
    return [_text("stream"), _text("topic"), sa.Column("partition", sa.Integer, nullable=False)]


def _one_of(column: str, words: tuple[str, ...]) -> sa.CheckConstraint:
    listed = ", ".join(f"'{word}'" for word in words)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=column)


#: Ids are never used again after a deletion: verdicts and audit entries name rows that retention may have removed.
_KEEP_IDS: dict[str, Any] = {"sqlite_autoincrement": True}

streams = sa.Table(
    "streams",
    metadata,
    sa.Column("name", SafeText, primary_key=True),
    _text("topic"),
    _text("config_fingerprint"),
    _time("created_at"),
    _time("updated_at"),
)

model_versions = sa.Table(
    "model_versions",
    metadata,
    _id(),
    _text("stream"),
    sa.Column("number", sa.Integer, nullable=False),
    _text("alias", nullable=True),
    _text("status"),
    _text("artifact_uri"),
    _text("sha256"),
    sa.Column("parent_id", BigId, sa.ForeignKey("model_versions.id"), nullable=True),
    _json("classes"),
    _count("n_train"),
    _count("n_calibration"),
    _time("trained_from", nullable=True),
    _time("trained_to", nullable=True),
    _json("metrics"),
    _text("note", nullable=True),
    _time("created_at"),
    sa.UniqueConstraint("stream", "number"),
    _one_of("alias", ("champion", "candidate")),
    _one_of("status", ("ready", "rejected", "retired")),
    # One champion and one candidate a stream; take the alias from the old version before giving it to the new one.
    sa.Index(
        "uq_model_versions_stream_alias",
        "stream",
        "alias",
        unique=True,
        sqlite_where=sa.text("alias IS NOT NULL"),
        postgresql_where=sa.text("alias IS NOT NULL"),
    ),
    **_KEEP_IDS,
)

thresholds = sa.Table(
    "thresholds",
    metadata,
    _id(),
    sa.Column("model_version_id", BigId, sa.ForeignKey("model_versions.id"), nullable=False),
    _text("class_label"),
    _number("value"),
    _number("alpha"),
    _count("n_calibration"),
    _text("method"),
    _text("source"),
    _text("cause", nullable=True),
    _time("valid_from"),
    sa.Column("calibration_scores", Float64Array, nullable=False),
    _one_of("source", ("training", "recalibration", "manual", "rollback")),
    sa.Index(None, "model_version_id", "class_label", "id"),
    # The newest threshold of a version without a walk over all its rows: every worker asks every two seconds.
    sa.Index(None, "model_version_id", "id"),
    **_KEEP_IDS,
)

incidents = sa.Table(
    "incidents",
    metadata,
    _id(),
    _text("stream"),
    _text("fingerprint"),
    _text("status"),
    _text("severity"),
    _text("nearest_class"),
    _number("max_score_ratio"),
    _time("first_seen"),
    _time("last_seen"),
    _count("anomaly_count"),
    _text("assignee", nullable=True),
    _time("snoozed_until", nullable=True),
    _time("created_at"),
    # When an anomaly last joined, or a person last acted: quiet time and retention count from here, because event
    # times lie far back while history is replayed.
    _time("updated_at"),
    _one_of("status", INCIDENT_STATUSES),
    _one_of("severity", SEVERITIES),
    sa.Index(
        "uq_incidents_unresolved_stream_fingerprint",
        "stream",
        "fingerprint",
        unique=True,
        sqlite_where=sa.text("status <> 'resolved'"),
        postgresql_where=sa.text("status <> 'resolved'"),
    ),
    sa.Index(
        "ix_incidents_unresolved_last_seen",
        "last_seen",
        sqlite_where=sa.text("status <> 'resolved'"),
        postgresql_where=sa.text("status <> 'resolved'"),
    ),
    sa.Index(None, "stream", "last_seen"),
    sa.Index(None, "status", "updated_at"),
    **_KEEP_IDS,
)

anomalies = sa.Table(
    "anomalies",
    metadata,
    _id(),
    *_position(),
    _count("record_offset"),
    _text("record_key", nullable=True),
    _text("sample_id", nullable=True),
    _time("event_time"),
    _time("detected_at"),
    _number("score"),
    _number("threshold"),
    _number("score_ratio"),
    _number("p_value"),
    _text("severity"),
    _text("nearest_class"),
    _text("label", nullable=True),
    sa.Column("model_version_id", BigId, sa.ForeignKey("model_versions.id"), nullable=False),
    sa.Column("threshold_id", BigId, sa.ForeignKey("thresholds.id"), nullable=False),
    sa.Column("features", Float32Array, nullable=False),
    _json("explanation"),
    sa.Column("incident_id", BigId, sa.ForeignKey("incidents.id", ondelete="SET NULL"), nullable=True),
    sa.UniqueConstraint("stream", "topic", "partition", "record_offset"),
    sa.Index(None, "detected_at"),
    sa.Index(None, "stream", "detected_at"),
    sa.Index(None, "incident_id", "id"),
    sa.Index(None, "stream", "sample_id"),
    **_KEEP_IDS,
)

verdicts = sa.Table(
    "verdicts",
    metadata,
    _id(),
    _text("stream"),
    # No foreign keys: the table is append only, and a verdict outlives what it judged.
    sa.Column("incident_id", BigId, nullable=True),
    sa.Column("anomaly_id", BigId, nullable=True),
    _text("verdict"),
    _text("cause", nullable=True),
    _text("comment", nullable=True),
    _text("author"),
    _time("created_at"),
    _one_of("verdict", VERDICTS),
    sa.CheckConstraint("(incident_id IS NULL) <> (anomaly_id IS NULL)", name="one_subject"),
    sa.Index(None, "incident_id", "id"),
    sa.Index(None, "anomaly_id", "id"),
    **_KEEP_IDS,
)

suppressions = sa.Table(
    "suppressions",
    metadata,
    _id(),
    _text("stream"),
    _text("class_label", nullable=True),
    _text("record_key", nullable=True),
    _text("expression", nullable=True),
    _text("reason"),
    _text("author"),
    _time("starts_at"),
    _time("ends_at", nullable=True),
    _time("created_at"),
    sa.Index(None, "stream", "ends_at"),
    **_KEEP_IDS,
)

offsets = sa.Table(
    "offsets",
    metadata,
    sa.Column("stream", SafeText, primary_key=True),
    sa.Column("topic", SafeText, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
    _count("next_offset"),
    _time("updated_at"),
)

offset_gaps = sa.Table(
    "offset_gaps",
    metadata,
    _id(),
    *_position(),
    _count("from_offset"),
    _count("to_offset"),
    _time("detected_at"),
    sa.UniqueConstraint("stream", "topic", "partition", "from_offset"),
)

dead_letters = sa.Table(
    "dead_letters",
    metadata,
    _id(),
    *_position(),
    _count("record_offset"),
    _text("reason"),
    _text("detail"),
    _text("error_class"),
    sa.Column("record_key", sa.LargeBinary, nullable=True),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    _count("payload_size"),
    sa.Column("headers", RecordHeaders, nullable=False),
    _time("record_time", nullable=True),
    _time("created_at"),
    _time("redriven_at", nullable=True),
    sa.UniqueConstraint("stream", "topic", "partition", "record_offset"),
    sa.Index(None, "stream", "reason", "id"),
    sa.Index(None, "created_at"),
    **_KEEP_IDS,
)

window_stats = sa.Table(
    "window_stats",
    metadata,
    sa.Column("stream", SafeText, primary_key=True),
    sa.Column("window_start", UtcDateTime, primary_key=True),
    _count("n_records"),
    _count("n_anomalies"),
    _count("n_invalid"),
    _count("n_tombstones"),
    # NULL while the minute has no scored record.
    _number("score_p50", nullable=True),
    _number("score_p90", nullable=True),
    _number("score_p99", nullable=True),
    _number("score_max", nullable=True),
    # Largest distance of a partition from its end that was seen in the minute, records.
    _count("lag"),
    # Seconds from the Kafka timestamp to the decision.
    _number("latency_p50", nullable=True),
    _number("latency_p99", nullable=True),
    _number("latency_max", nullable=True),
    # The histograms behind the quantiles, so that two workers can add to one row (window_stats.py).
    sa.Column("score_sketch", sa.LargeBinary, nullable=False),
    sa.Column("latency_sketch", sa.LargeBinary, nullable=False),
    _time("updated_at"),
)

samples = sa.Table(
    "samples",
    metadata,
    _id(),
    *_position(),
    _count("record_offset"),
    _text("sample_id", nullable=True),
    _time("event_time"),
    _time("kept_at"),
    sa.Column("features", Float32Array, nullable=False),
    _text("label", nullable=True),
    _text("predicted_class"),
    # NULL for a row of a training file, which was never scored in the stream.
    _number("score", nullable=True),
    sa.Column("flagged", sa.Boolean, nullable=False),
    _number("reservoir_key"),
    _text("verdict", nullable=True),
    sa.UniqueConstraint("stream", "topic", "partition", "record_offset"),
    sa.Index(None, "stream", "kept_at", "id"),
    sa.Index(
        "ix_samples_stream_class_reservoir_key",
        "stream",
        sa.text("coalesce(label, predicted_class)"),
        "reservoir_key",
    ),
    sa.Index(None, "stream", "sample_id"),
)

labels = sa.Table(
    "labels",
    metadata,
    _id(),
    _text("stream"),
    _text("sample_id"),
    _text("label"),
    _text("source"),
    _time("created_at"),
    sa.UniqueConstraint("stream", "sample_id"),
)

drift_signals = sa.Table(
    "drift_signals",
    metadata,
    _id(),
    _text("stream"),
    _text("statistic"),
    _text("class_label", nullable=True),
    sa.Column("model_version_id", BigId, sa.ForeignKey("model_versions.id"), nullable=True),
    _number("value"),
    _number("p_value", nullable=True),
    _time("reference_from", nullable=True),
    _time("reference_to", nullable=True),
    _count("n_reference"),
    _time("current_from", nullable=True),
    _time("current_to", nullable=True),
    _count("n_current"),
    sa.Column("tripped", sa.Boolean, nullable=False),
    _json("detail"),
    _time("created_at"),
    sa.Index(None, "stream", "created_at"),
)

job_runs = sa.Table(
    "job_runs",
    metadata,
    _id(),
    _text("job"),
    _text("stream", nullable=True),
    _time("started_at"),
    _time("finished_at", nullable=True),
    _text("status"),
    _json("detail"),
    _text("holder"),
    _one_of("status", ("running", "succeeded", "failed", "rejected", "skipped")),
    sa.Index(None, "stream", "job", "started_at"),
    sa.Index(None, "started_at"),
)

audit_log = sa.Table(
    "audit_log",
    metadata,
    _id(),
    _text("stream", nullable=True),
    _text("who"),
    _text("what"),
    _json("before", nullable=True),
    _json("after", nullable=True),
    _text("reason", nullable=True),
    # A reserved word in SQL (write "when"); the name is the contract's.
    _time("when"),
    sa.Index(None, "stream", "when"),
    **_KEEP_IDS,
)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("name", SafeText, primary_key=True),
    _text("holder"),
    _count("token"),
    _time("expires_at"),
)
