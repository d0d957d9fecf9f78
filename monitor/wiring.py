"""The one place where adapters are chosen. Everything else gets its ports as arguments."""

from __future__ import annotations

from threading import Event
from typing import TYPE_CHECKING

from monitor.clock import SystemClock
from monitor.errors import ConfigError
from monitor.hot_reload import HotReloader
from monitor.metrics import NoMetrics, PrometheusMetrics
from monitor.pipeline import Pipeline
from monitor.registry import Registry
from monitor.store import Store, open_store
from monitor.worker import Worker

if TYPE_CHECKING:
    from monitor.ports import Clock, Metrics, RecordSource
    from monitor.settings import Settings
    from monitor.settings_streams import StreamSettings


def group_id(settings: Settings, stream: StreamSettings) -> str:
    """Consumer group of a stream's workers."""
    return f"{settings.kafka.group_prefix}.{stream.name}"


def make_source(settings: Settings, stream: StreamSettings, *, clock: Clock) -> RecordSource:
    """The record source of a stream, connected.

    Raises:
        BrokerUnavailable: No broker answered.
        ConfigError: The settings cannot work.
    """
    from monitor.kafka_io import KafkaSource  # noqa: PLC0415 - commands that read no Kafka start without it

    return KafkaSource(settings.kafka, topic=stream.topic, group=group_id(settings, stream), monotonic=clock.monotonic)


def make_metrics(settings: Settings) -> Metrics:
    """Prometheus metrics served on the configured address, or none.

    Raises:
        ConfigError: Something else listens there.
    """
    if not settings.metrics.port:
        return NoMetrics()
    from prometheus_client import start_http_server  # noqa: PLC0415 - brings an HTTP server along

    metrics, address = PrometheusMetrics(), settings.metrics
    try:
        start_http_server(address.port, addr=address.host, registry=metrics.registry)
    except OSError as error:
        raise ConfigError(
            f"Metrics cannot be served on {address.host}:{address.port}: {error.strerror or error}. Choose a free "
            "metrics.port (one for each process), or 0 for none."
        ) from error
    return metrics


def make_store(settings: Settings) -> Store:
    """The store, open.

    Raises:
        StoreUnavailable: The database does not answer.
        SchemaBehind: It needs ``narrows db upgrade``.
    """
    return open_store(settings.store.url)


def make_reloader(settings: Settings, stream: StreamSettings, *, store: Store, metrics: Metrics) -> HotReloader:
    """Keeps the champion of a stream current."""
    return HotReloader(stream=stream, store=store.models, load=Registry(settings.registry.uri).load, metrics=metrics)


def make_worker(
    settings: Settings,
    stream: StreamSettings,
    *,
    store: Store,
    reloader: HotReloader,
    metrics: Metrics,
    stop: Event,
) -> Worker:
    """The worker of a stream; the store learns of the stream and of how many samples it may keep."""
    clock = SystemClock(stop)
    samples = stream.samples
    store.pipeline.limit_samples(stream.name, recent=samples.recent, reservoir_per_class=samples.reservoir_per_class)

    def build(source: RecordSource) -> Pipeline:
        return Pipeline(
            stream=stream,
            source=source,
            store=store.pipeline,
            champion=lambda: reloader.current,
            clock=clock,
            metrics=metrics,
            start_latest=settings.kafka.start_from == "latest",
        )

    return Worker(
        stream=stream.name,
        open_source=lambda: make_source(settings, stream, clock=clock),
        build=build,
        store=store.pipeline,
        clock=clock,
        metrics=metrics,
        stop=stop,
    )
