"""Every metric with its kind, unit and meaning; a metric's name is a type, so a typo does not compile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client import Counter as PrometheusCounter
from prometheus_client import Gauge as PrometheusGauge
from prometheus_client import Histogram as PrometheusHistogram


@dataclass(frozen=True, slots=True)
class _Metric:
    name: str
    meaning: str
    labels: tuple[str, ...] = ()


class Counter(_Metric):
    """Only grows; named ``..._total``."""


class Gauge(_Metric):
    """Goes up and down."""


class Histogram(_Metric):
    """Distribution of values; the unit is in the name."""


RECORDS_RECEIVED = Counter("narrows_records_received_total", "Records read from Kafka and committed to the store.")
RECORDS_DEAD_LETTERED = Counter(
    "narrows_records_dead_lettered_total", "Records that could not be scored, by reason.", ("reason",)
)
RECORDS_SKIPPED = Counter("narrows_records_skipped_total", "Records with a null value (tombstones).")
ANOMALIES = Counter("narrows_anomalies_total", "Records flagged, by severity.", ("severity",))
BATCHES = Counter("narrows_batches_total", "Batches committed.")
OFFSET_CONFLICTS = Counter("narrows_offset_conflicts_total", "Partitions dropped because another worker moved on.")
OFFSET_GAPS = Counter("narrows_offset_gap_records_total", "Offsets that the broker no longer had when asked.")
OUTAGES = Counter("narrows_outages_total", "Times that something needed could not be reached.", ("what",))
RELOADS = Counter("narrows_reloads_total", "New champions or thresholds taken or refused.", ("result",))
JOB_RUNS = Counter("narrows_job_runs_total", "Scheduled jobs by name and result.", ("job_name", "status"))

CONSUMER_LAG = Gauge("narrows_consumer_lag", "Records behind the end of the partition.", ("partition",))
MODEL_VERSION = Gauge("narrows_model_version", "Number of the version that scores now.")
LAST_COMMIT = Gauge("narrows_last_commit_timestamp_seconds", "When the last batch was committed, epoch seconds.")
SCHEDULER_ALIVE = Gauge("narrows_scheduler_alive", "1 while this process holds the scheduler's lease.")

BATCH_DURATION = Histogram("narrows_batch_duration_seconds", "Time for one batch by stage.", ("stage",))
BATCH_SIZE = Histogram("narrows_batch_records", "Records in a batch.")
LATENCY = Histogram("narrows_latency_seconds", "Kafka timestamp to decision, slowest record of a batch.")

_SIZE_BUCKETS = (1, 10, 100, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000)


class PrometheusMetrics:
    """Measurements kept for a Prometheus scraper.

    Args:
        registry: Where the collectors live; a fresh one unless given, so that two instances never collide.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._collectors: dict[str, Any] = {}

    def increment(self, counter: Counter, amount: float = 1, *, stream: str, **labels: str) -> None:
        """Add to a counter."""
        self._collector(counter, PrometheusCounter).labels(stream=stream, **labels).inc(amount)

    def set(self, gauge: Gauge, value: float, *, stream: str, **labels: str) -> None:
        """Set a gauge."""
        self._collector(gauge, PrometheusGauge).labels(stream=stream, **labels).set(value)

    def observe(self, histogram: Histogram, value: float, *, stream: str, **labels: str) -> None:
        """Record one value."""
        extra = {"buckets": _SIZE_BUCKETS} if histogram is BATCH_SIZE else {}
        self._collector(histogram, PrometheusHistogram, **extra).labels(stream=stream, **labels).observe(value)

    def _collector(self, metric: _Metric, kind: Any, **extra: Any) -> Any:
        found = self._collectors.get(metric.name)
        if found is None:
            names = ("stream", *metric.labels)
            found = kind(metric.name, metric.meaning, names, registry=self.registry, **extra)
            self._collectors[metric.name] = found
        return found


class NoMetrics:
    """Measurements that nobody asked for."""

    def increment(self, counter: Counter, amount: float = 1, *, stream: str, **labels: str) -> None:
        """Forget."""

    def set(self, gauge: Gauge, value: float, *, stream: str, **labels: str) -> None:
        """Forget."""

    def observe(self, histogram: Histogram, value: float, *, stream: str, **labels: str) -> None:
        """Forget."""
