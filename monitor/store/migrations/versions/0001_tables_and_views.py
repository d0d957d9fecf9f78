"""All tables, indexes and views."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from monitor.store.column_types import BigId, Float32Array, Float64Array, Json, RecordHeaders, SafeText, UtcDateTime
from monitor.store.views import create_views, drop_views

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

#: In the order of creation.
_TABLES = (
    "audit_log",
    "dead_letters",
    "incidents",
    "job_runs",
    "labels",
    "leases",
    "model_versions",
    "offset_gaps",
    "offsets",
    "samples",
    "streams",
    "suppressions",
    "verdicts",
    "window_stats",
    "drift_signals",
    "thresholds",
    "anomalies",
)


def upgrade() -> None:
    _create_tables()
    # A later revision that touches a view drops it here first and writes the new text out.
    create_views(op.get_bind())


def downgrade() -> None:
    drop_views(op.get_bind())
    for table in reversed(_TABLES):
        op.drop_table(table)


def _create_tables() -> None:
    op.create_table(
        "audit_log",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("stream", SafeText(), nullable=True),
        sa.Column("who", SafeText(), nullable=False),
        sa.Column("what", SafeText(), nullable=False),
        sa.Column("before", Json, nullable=True),
        sa.Column("after", Json, nullable=True),
        sa.Column("reason", SafeText(), nullable=True),
        sa.Column("when", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_audit_log_stream_when"), "audit_log", ["stream", "when"], unique=False)
    op.create_table(
        "dead_letters",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("stream", SafeText(), nullable=False),
        sa.Column("topic", SafeText(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("record_offset", sa.BigInteger(), nullable=False),
        sa.Column("reason", SafeText(), nullable=False),
        sa.Column("detail", SafeText(), nullable=False),
        sa.Column("error_class", SafeText(), nullable=False),
        sa.Column("record_key", sa.LargeBinary(), nullable=True),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("payload_size", sa.BigInteger(), nullable=False),
        sa.Column("headers", RecordHeaders(), nullable=False),
        sa.Column("record_time", UtcDateTime(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("redriven_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dead_letters")),
        sa.UniqueConstraint(
            "stream",
            "topic",
            "partition",
            "record_offset",
            name=op.f("uq_dead_letters_stream_topic_partition_record_offset"),
        ),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_dead_letters_created_at"), "dead_letters", ["created_at"], unique=False)
    op.create_index(op.f("ix_dead_letters_stream_reason_id"), "dead_letters", ["stream", "reason", "id"], unique=False)
    op.create_table(
        "incidents",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("stream", SafeText(), nullable=False),
        sa.Column("fingerprint", SafeText(), nullable=False),
        sa.Column("status", SafeText(), nullable=False),
        sa.Column("severity", SafeText(), nullable=False),
        sa.Column("nearest_class", SafeText(), nullable=False),
        sa.Column("max_score_ratio", sa.Double(), nullable=False),
        sa.Column("first_seen", UtcDateTime(), nullable=False),
        sa.Column("last_seen", UtcDateTime(), nullable=False),
        sa.Column("anomaly_count", sa.BigInteger(), nullable=False),
        sa.Column("assignee", SafeText(), nullable=True),
        sa.Column("snoozed_until", UtcDateTime(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.CheckConstraint("severity IN ('low', 'medium', 'high', 'critical')", name=op.f("ck_incidents_severity")),
        sa.CheckConstraint(
            "status IN ('open', 'acknowledged', 'snoozed', 'resolved')", name=op.f("ck_incidents_status")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_incidents")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_incidents_status_updated_at"), "incidents", ["status", "updated_at"], unique=False)
    op.create_index(op.f("ix_incidents_stream_last_seen"), "incidents", ["stream", "last_seen"], unique=False)
    op.create_index(
        "ix_incidents_unresolved_last_seen",
        "incidents",
        ["last_seen"],
        unique=False,
        sqlite_where=sa.text("status <> 'resolved'"),
        postgresql_where=sa.text("status <> 'resolved'"),
    )
    op.create_index(
        "uq_incidents_unresolved_stream_fingerprint",
        "incidents",
        ["stream", "fingerprint"],
        unique=True,
        sqlite_where=sa.text("status <> 'resolved'"),
        postgresql_where=sa.text("status <> 'resolved'"),
    )
    op.create_table(
        "job_runs",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("job", SafeText(), nullable=False),
        sa.Column("stream", SafeText(), nullable=True),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.Column("finished_at", UtcDateTime(), nullable=True),
        sa.Column("status", SafeText(), nullable=False),
        sa.Column("detail", Json, nullable=False),
        sa.Column("holder", SafeText(), nullable=False),
        sa.CheckConstraint(
            "status IN ('running', 'succeeded', 'failed', 'rejected', 'skipped')", name=op.f("ck_job_runs_status")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_runs")),
    )
    op.create_index(op.f("ix_job_runs_started_at"), "job_runs", ["started_at"], unique=False)
    op.create_index(
        op.f("ix_job_runs_stream_job_started_at"), "job_runs", ["stream", "job", "started_at"], unique=False
    )
    op.create_table(
        "labels",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("stream", SafeText(), nullable=False),
        sa.Column("sample_id", SafeText(), nullable=False),
        sa.Column("label", SafeText(), nullable=False),
        sa.Column("source", SafeText(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_labels")),
        sa.UniqueConstraint("stream", "sample_id", name=op.f("uq_labels_stream_sample_id")),
    )
    op.create_table(
        "leases",
        sa.Column("name", SafeText(), nullable=False),
        sa.Column("holder", SafeText(), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_table(
        "model_versions",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("stream", SafeText(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("alias", SafeText(), nullable=True),
        sa.Column("status", SafeText(), nullable=False),
        sa.Column("artifact_uri", SafeText(), nullable=False),
        sa.Column("sha256", SafeText(), nullable=False),
        sa.Column("parent_id", BigId, nullable=True),
        sa.Column("classes", Json, nullable=False),
        sa.Column("n_train", sa.BigInteger(), nullable=False),
        sa.Column("n_calibration", sa.BigInteger(), nullable=False),
        sa.Column("trained_from", UtcDateTime(), nullable=True),
        sa.Column("trained_to", UtcDateTime(), nullable=True),
        sa.Column("metrics", Json, nullable=False),
        sa.Column("note", SafeText(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.CheckConstraint("alias IN ('champion', 'candidate')", name=op.f("ck_model_versions_alias")),
        sa.CheckConstraint("status IN ('ready', 'rejected', 'retired')", name=op.f("ck_model_versions_status")),
        sa.ForeignKeyConstraint(
            ["parent_id"], ["model_versions.id"], name=op.f("fk_model_versions_parent_id_model_versions")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_versions")),
        sa.UniqueConstraint("stream", "number", name=op.f("uq_model_versions_stream_number")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "uq_model_versions_stream_alias",
        "model_versions",
        ["stream", "alias"],
        unique=True,
        sqlite_where=sa.text("alias IS NOT NULL"),
        postgresql_where=sa.text("alias IS NOT NULL"),
    )
    op.create_table(
        "offset_gaps",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("stream", SafeText(), nullable=False),
        sa.Column("topic", SafeText(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("from_offset", sa.BigInteger(), nullable=False),
        sa.Column("to_offset", sa.BigInteger(), nullable=False),
        sa.Column("detected_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_offset_gaps")),
        sa.UniqueConstraint(
            "stream",
            "topic",
            "partition",
            "from_offset",
            name=op.f("uq_offset_gaps_stream_topic_partition_from_offset"),
        ),
    )
    op.create_table(
        "offsets",
        sa.Column("stream", SafeText(), nullable=False),
        sa.Column("topic", SafeText(), nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("next_offset", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("stream", "topic", "partition", name=op.f("pk_offsets")),
    )
    op.create_table(
        "samples",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("stream", SafeText(), nullable=False),
        sa.Column("topic", SafeText(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("record_offset", sa.BigInteger(), nullable=False),
        sa.Column("sample_id", SafeText(), nullable=True),
        sa.Column("event_time", UtcDateTime(), nullable=False),
        sa.Column("kept_at", UtcDateTime(), nullable=False),
        sa.Column("features", Float32Array(), nullable=False),
        sa.Column("label", SafeText(), nullable=True),
        sa.Column("predicted_class", SafeText(), nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("flagged", sa.Boolean(), nullable=False),
        sa.Column("reservoir_key", sa.Double(), nullable=False),
        sa.Column("verdict", SafeText(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_samples")),
        sa.UniqueConstraint(
            "stream",
            "topic",
            "partition",
            "record_offset",
            name=op.f("uq_samples_stream_topic_partition_record_offset"),
        ),
    )
    op.create_index(op.f("ix_samples_stream_kept_at_id"), "samples", ["stream", "kept_at", "id"], unique=False)
    op.create_index(op.f("ix_samples_stream_sample_id"), "samples", ["stream", "sample_id"], unique=False)
    op.create_table(
        "streams",
        sa.Column("name", SafeText(), nullable=False),
        sa.Column("topic", SafeText(), nullable=False),
        sa.Column("config_fingerprint", SafeText(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_streams")),
    )
    op.create_table(
        "suppressions",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("stream", SafeText(), nullable=False),
        sa.Column("class_label", SafeText(), nullable=True),
        sa.Column("record_key", SafeText(), nullable=True),
        sa.Column("expression", SafeText(), nullable=True),
        sa.Column("reason", SafeText(), nullable=False),
        sa.Column("author", SafeText(), nullable=False),
        sa.Column("starts_at", UtcDateTime(), nullable=False),
        sa.Column("ends_at", UtcDateTime(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_suppressions")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_suppressions_stream_ends_at"), "suppressions", ["stream", "ends_at"], unique=False)
    op.create_table(
        "verdicts",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("stream", SafeText(), nullable=False),
        sa.Column("incident_id", BigId, nullable=True),
        sa.Column("anomaly_id", BigId, nullable=True),
        sa.Column("verdict", SafeText(), nullable=False),
        sa.Column("cause", SafeText(), nullable=True),
        sa.Column("comment", SafeText(), nullable=True),
        sa.Column("author", SafeText(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.CheckConstraint(
            "verdict IN ('anomaly', 'expected', 'not_anomaly', 'new_normal')", name=op.f("ck_verdicts_verdict")
        ),
        sa.CheckConstraint("(incident_id IS NULL) <> (anomaly_id IS NULL)", name=op.f("ck_verdicts_one_subject")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_verdicts")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_verdicts_anomaly_id_id"), "verdicts", ["anomaly_id", "id"], unique=False)
    op.create_index(op.f("ix_verdicts_incident_id_id"), "verdicts", ["incident_id", "id"], unique=False)
    op.create_table(
        "window_stats",
        sa.Column("stream", SafeText(), nullable=False),
        sa.Column("window_start", UtcDateTime(), nullable=False),
        sa.Column("n_records", sa.BigInteger(), nullable=False),
        sa.Column("n_anomalies", sa.BigInteger(), nullable=False),
        sa.Column("n_invalid", sa.BigInteger(), nullable=False),
        sa.Column("n_tombstones", sa.BigInteger(), nullable=False),
        sa.Column("score_p50", sa.Double(), nullable=True),
        sa.Column("score_p90", sa.Double(), nullable=True),
        sa.Column("score_p99", sa.Double(), nullable=True),
        sa.Column("score_max", sa.Double(), nullable=True),
        sa.Column("lag", sa.BigInteger(), nullable=False),
        sa.Column("latency_p50", sa.Double(), nullable=True),
        sa.Column("latency_p99", sa.Double(), nullable=True),
        sa.Column("latency_max", sa.Double(), nullable=True),
        sa.Column("score_sketch", sa.LargeBinary(), nullable=False),
        sa.Column("latency_sketch", sa.LargeBinary(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("stream", "window_start", name=op.f("pk_window_stats")),
    )
    op.create_table(
        "drift_signals",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("stream", SafeText(), nullable=False),
        sa.Column("statistic", SafeText(), nullable=False),
        sa.Column("class_label", SafeText(), nullable=True),
        sa.Column("model_version_id", BigId, nullable=True),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("p_value", sa.Double(), nullable=True),
        sa.Column("reference_from", UtcDateTime(), nullable=True),
        sa.Column("reference_to", UtcDateTime(), nullable=True),
        sa.Column("n_reference", sa.BigInteger(), nullable=False),
        sa.Column("current_from", UtcDateTime(), nullable=True),
        sa.Column("current_to", UtcDateTime(), nullable=True),
        sa.Column("n_current", sa.BigInteger(), nullable=False),
        sa.Column("tripped", sa.Boolean(), nullable=False),
        sa.Column("detail", Json, nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_version_id"], ["model_versions.id"], name=op.f("fk_drift_signals_model_version_id_model_versions")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_drift_signals")),
    )
    op.create_index(op.f("ix_drift_signals_stream_created_at"), "drift_signals", ["stream", "created_at"], unique=False)
    op.create_table(
        "thresholds",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("model_version_id", BigId, nullable=False),
        sa.Column("class_label", SafeText(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("alpha", sa.Double(), nullable=False),
        sa.Column("n_calibration", sa.BigInteger(), nullable=False),
        sa.Column("method", SafeText(), nullable=False),
        sa.Column("source", SafeText(), nullable=False),
        sa.Column("cause", SafeText(), nullable=True),
        sa.Column("valid_from", UtcDateTime(), nullable=False),
        sa.Column("calibration_scores", Float64Array(), nullable=False),
        sa.CheckConstraint(
            "source IN ('training', 'recalibration', 'manual', 'rollback')", name=op.f("ck_thresholds_source")
        ),
        sa.ForeignKeyConstraint(
            ["model_version_id"], ["model_versions.id"], name=op.f("fk_thresholds_model_version_id_model_versions")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_thresholds")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_thresholds_model_version_id_class_label_id"),
        "thresholds",
        ["model_version_id", "class_label", "id"],
        unique=False,
    )
    op.create_index(op.f("ix_thresholds_model_version_id_id"), "thresholds", ["model_version_id", "id"], unique=False)
    op.create_table(
        "anomalies",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("stream", SafeText(), nullable=False),
        sa.Column("topic", SafeText(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("record_offset", sa.BigInteger(), nullable=False),
        sa.Column("record_key", SafeText(), nullable=True),
        sa.Column("sample_id", SafeText(), nullable=True),
        sa.Column("event_time", UtcDateTime(), nullable=False),
        sa.Column("detected_at", UtcDateTime(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("score_ratio", sa.Double(), nullable=False),
        sa.Column("p_value", sa.Double(), nullable=False),
        sa.Column("severity", SafeText(), nullable=False),
        sa.Column("nearest_class", SafeText(), nullable=False),
        sa.Column("label", SafeText(), nullable=True),
        sa.Column("model_version_id", BigId, nullable=False),
        sa.Column("threshold_id", BigId, nullable=False),
        sa.Column("features", Float32Array(), nullable=False),
        sa.Column("explanation", Json, nullable=False),
        sa.Column("incident_id", BigId, nullable=True),
        sa.ForeignKeyConstraint(
            ["incident_id"], ["incidents.id"], name=op.f("fk_anomalies_incident_id_incidents"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["model_version_id"], ["model_versions.id"], name=op.f("fk_anomalies_model_version_id_model_versions")
        ),
        sa.ForeignKeyConstraint(["threshold_id"], ["thresholds.id"], name=op.f("fk_anomalies_threshold_id_thresholds")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_anomalies")),
        sa.UniqueConstraint(
            "stream",
            "topic",
            "partition",
            "record_offset",
            name=op.f("uq_anomalies_stream_topic_partition_record_offset"),
        ),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_anomalies_detected_at"), "anomalies", ["detected_at"], unique=False)
    op.create_index(op.f("ix_anomalies_incident_id_id"), "anomalies", ["incident_id", "id"], unique=False)
    op.create_index(op.f("ix_anomalies_stream_detected_at"), "anomalies", ["stream", "detected_at"], unique=False)
    op.create_index(op.f("ix_anomalies_stream_sample_id"), "anomalies", ["stream", "sample_id"], unique=False)
    # ### end Alembic commands ###
    op.create_index(
        "ix_samples_stream_class_reservoir_key",
        "samples",
        ["stream", sa.text("coalesce(label, predicted_class)"), "reservoir_key"],
    )
