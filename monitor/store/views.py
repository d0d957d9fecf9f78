"""The seven views that analysts start from; the same columns in SQLite and PostgreSQL. No table is changed here.

Every view is cheap at ten million anomalies: those about anomalies go through an index on ``detected_at``,
``incident_id`` or the judged ids, the rates come from ``window_stats`` (one row a minute).
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

#: What the two databases spell differently.
_SQLITE = {
    "now": "strftime('%Y-%m-%d %H:%M:%f', 'now')",
    "hour_ago": "strftime('%Y-%m-%d %H:%M:%f', 'now', '-1 hour')",
    "day_ago": "strftime('%Y-%m-%d %H:%M:%f', 'now', '-1 day')",
    "week_ago": "strftime('%Y-%m-%d %H:%M:%f', 'now', '-7 days')",
    "hour": "substr(window_start, 1, 13) || ':00:00.000000'",
    "double": "REAL",
}
_POSTGRES = {
    "now": "now()",
    "hour_ago": "now() - interval '1 hour'",
    "day_ago": "now() - interval '1 day'",
    "week_ago": "now() - interval '7 days'",
    "hour": "date_trunc('hour', window_start, 'UTC')",
    "double": "double precision",
}

#: Unresolved incidents that ask for somebody now: a snoozed one is hidden until its time is over.
_OPEN_INCIDENTS = """
SELECT i.id, i.stream, i.status, i.severity, i.nearest_class, i.anomaly_count, i.max_score_ratio,
       i.first_seen, i.last_seen, i.updated_at, i.assignee, i.snoozed_until, i.fingerprint,
       (SELECT v.verdict FROM verdicts v WHERE v.incident_id = i.id ORDER BY v.id DESC LIMIT 1) AS verdict
FROM incidents i
WHERE i.status <> 'resolved' AND (i.status <> 'snoozed' OR i.snoozed_until IS NULL OR i.snoozed_until <= {now})
"""

#: Anomalies detected in the last seven days; the newest verdict on the anomaly, else on its incident.
_RECENT_ANOMALIES = """
SELECT a.id, a.stream, a.event_time, a.detected_at, a.severity, a.score_ratio, a.nearest_class, a.score, a.threshold,
       a.p_value, a.label, a.record_key, a.sample_id, a.topic, a.partition, a.record_offset,
       m.number AS model_version, a.threshold_id, a.incident_id, i.status AS incident_status,
       coalesce(
           (SELECT v.verdict FROM verdicts v WHERE v.anomaly_id = a.id ORDER BY v.id DESC LIMIT 1),
           (SELECT v.verdict FROM verdicts v WHERE v.incident_id = a.incident_id ORDER BY v.id DESC LIMIT 1)
       ) AS verdict,
       a.explanation
FROM anomalies a
LEFT JOIN incidents i ON i.id = a.incident_id
LEFT JOIN model_versions m ON m.id = a.model_version_id
WHERE a.detected_at >= {week_ago}
"""

_ANOMALY_RATE_HOURLY = """
SELECT stream, {hour} AS hour, CAST(sum(n_records) AS bigint) AS n_records,
       CAST(sum(n_anomalies) AS bigint) AS n_anomalies, CAST(sum(n_invalid) AS bigint) AS n_invalid,
       CAST(sum(n_anomalies) AS {double}) / nullif(sum(n_records), 0) AS anomaly_rate,
       max(score_p99) AS score_p99_max, max(lag) AS lag_max
FROM window_stats
GROUP BY stream, {hour}
"""

#: Share of the judged alerts that analysts called false; an alert nobody judged counts nowhere.
_FALSE_ALARM_RATE = """
WITH judged_ids AS (
    SELECT anomaly_id AS id FROM verdicts WHERE anomaly_id IS NOT NULL
    UNION
    SELECT a.id FROM verdicts v JOIN anomalies a ON a.incident_id = v.incident_id
), judged AS (
    SELECT a.stream, a.model_version_id, a.nearest_class,
           coalesce(
               (SELECT v.verdict FROM verdicts v WHERE v.anomaly_id = a.id ORDER BY v.id DESC LIMIT 1),
               (SELECT v.verdict FROM verdicts v WHERE v.incident_id = a.incident_id ORDER BY v.id DESC LIMIT 1)
           ) AS verdict
    FROM judged_ids j JOIN anomalies a ON a.id = j.id
)
SELECT j.stream, m.number AS model_version, j.nearest_class, count(*) AS n_judged,
       sum(CASE WHEN j.verdict = 'anomaly' THEN 0 ELSE 1 END) AS n_false_alarms,
       CAST(sum(CASE WHEN j.verdict = 'anomaly' THEN 0 ELSE 1 END) AS {double}) / count(*) AS false_alarm_rate
FROM judged j LEFT JOIN model_versions m ON m.id = j.model_version_id
GROUP BY j.stream, m.number, j.nearest_class
"""

_THRESHOLD_HISTORY = """
SELECT m.stream, m.number AS model_version, m.alias, t.class_label, t.id AS threshold_id, t.value,
       lag(t.value) OVER each_class AS previous_value, t.alpha, t.n_calibration, t.method, t.source, t.cause,
       t.valid_from, lead(t.valid_from) OVER each_class AS valid_to
FROM thresholds t JOIN model_versions m ON m.id = t.model_version_id
WINDOW each_class AS (PARTITION BY t.model_version_id, t.class_label ORDER BY t.id)
"""

_MODEL_LINEAGE = """
WITH RECURSIVE line (id, generation, path) AS (
    SELECT id, 1, CAST(number AS text) FROM model_versions WHERE parent_id IS NULL
    UNION ALL
    SELECT m.id, l.generation + 1, l.path || ' > ' || CAST(m.number AS text)
    FROM model_versions m JOIN line l ON m.parent_id = l.id
)
SELECT m.stream, m.number AS model_version, m.alias, m.status, p.number AS parent_version, l.generation, l.path,
       m.n_train, m.n_calibration, m.trained_from, m.trained_to, m.classes, m.metrics, m.note, m.created_at,
       m.artifact_uri, m.sha256, m.id AS model_version_id
FROM line l JOIN model_versions m ON m.id = l.id LEFT JOIN model_versions p ON p.id = m.parent_id
"""

_STREAM_HEALTH = """
WITH last_hour AS (
    SELECT stream, CAST(sum(n_records) AS bigint) AS n_records, CAST(sum(n_anomalies) AS bigint) AS n_anomalies,
           CAST(sum(n_invalid) AS bigint) AS n_invalid, max(latency_p99) AS latency_p99_max
    FROM window_stats WHERE window_start >= {hour_ago} GROUP BY stream
)
SELECT s.name AS stream, s.topic,
       (SELECT m.number FROM model_versions m WHERE m.stream = s.name AND m.alias = 'champion') AS champion_version,
       (SELECT max(o.updated_at) FROM offsets o WHERE o.stream = s.name) AS last_progress_at,
       (SELECT w.lag FROM window_stats w WHERE w.stream = s.name ORDER BY w.window_start DESC LIMIT 1) AS lag,
       coalesce(h.n_records, 0) AS records_last_hour,
       coalesce(h.n_anomalies, 0) AS anomalies_last_hour,
       coalesce(h.n_invalid, 0) AS invalid_last_hour,
       CAST(h.n_anomalies AS {double}) / nullif(h.n_records, 0) AS anomaly_rate_last_hour,
       h.latency_p99_max AS latency_p99_last_hour,
       (SELECT count(*) FROM incidents i WHERE i.stream = s.name AND i.status <> 'resolved') AS unresolved_incidents,
       (SELECT count(*) FROM drift_signals d
        WHERE d.stream = s.name AND d.tripped AND d.created_at >= {day_ago}) AS drift_signals_last_day,
       (SELECT CAST(coalesce(sum(g.to_offset - g.from_offset), 0) AS bigint) FROM offset_gaps g
        WHERE g.stream = s.name AND g.detected_at >= {day_ago}) AS lost_offsets_last_day,
       (SELECT max(j.started_at) FROM job_runs j
        WHERE j.stream = s.name AND j.job = 'recalibrate' AND j.status = 'succeeded') AS last_recalibrated_at,
       (SELECT max(j.started_at) FROM job_runs j
        WHERE j.stream = s.name AND j.job = 'retrain' AND j.status IN ('succeeded', 'rejected')) AS last_retrained_at
FROM streams s LEFT JOIN last_hour h ON h.stream = s.name
"""

VIEWS = {
    "open_incidents": _OPEN_INCIDENTS,
    "recent_anomalies": _RECENT_ANOMALIES,
    "anomaly_rate_hourly": _ANOMALY_RATE_HOURLY,
    "false_alarm_rate": _FALSE_ALARM_RATE,
    "threshold_history": _THRESHOLD_HISTORY,
    "model_lineage": _MODEL_LINEAGE,
    "stream_health": _STREAM_HEALTH,
}


def create_views(connection: Connection) -> None:
    """Create all views in the caller's transaction."""
    words = _SQLITE if connection.dialect.name == "sqlite" else _POSTGRES
    for name, query in VIEWS.items():
        # exec_driver_sql: no bind parameters here, and "%" and ":" belong to SQLite's date format.
        statement = f"CREATE VIEW {name} AS {query.format_map(words).strip()}"
        connection.exec_driver_sql(statement)


def drop_views(connection: Connection) -> None:
    """Drop all views that exist, in the caller's transaction."""
    for name in VIEWS:
        connection.execute(sa.text(f"DROP VIEW IF EXISTS {name}"))
