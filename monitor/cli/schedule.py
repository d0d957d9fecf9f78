"""``narrows schedule``: the scheduler as a process of its own."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import typer

from monitor.cli.context import StreamFilter, demand_store, load

if TYPE_CHECKING:
    from monitor.settings import Settings


def schedule(ctx: typer.Context, stream: StreamFilter = None) -> None:
    """Recalibrate, retrain and prune by the clock until told to stop (SIGTERM or Ctrl-C: at most ten seconds).

    Start as many as you like: one acts, the others take over within seconds when it dies. What should have run while
    none was there is done soon after the start.

    Example: narrows schedule
    """
    settings = load(ctx)
    demand_store(settings)
    _run(settings, streams=None if stream is None else (settings.stream(stream).name,))


def _run(settings: Settings, *, streams: Sequence[str] | None) -> None:
    """Until SIGTERM or SIGINT; waits for a database that is away."""
    from monitor import wiring  # noqa: PLC0415 - after the configuration is known to be good
    from monitor.clock import SystemClock  # noqa: PLC0415
    from monitor.registry import Registry  # noqa: PLC0415
    from monitor.retrying import Outage, Stopped, until_available  # noqa: PLC0415
    from monitor.runner import stopping_on_signals  # noqa: PLC0415
    from monitor.scheduler import SchedulerService  # noqa: PLC0415

    stop = threading.Event()
    clock, metrics = SystemClock(stop), wiring.make_metrics(settings)
    outage = Outage(stream="scheduler", clock=clock, metrics=metrics)
    with stopping_on_signals(stop, timeout_s=settings.worker.shutdown_timeout.total_seconds()), suppress(Stopped):
        store = until_available(lambda: wiring.make_store(settings), outage=outage, stop=stop)
        with store:
            registry = Registry(settings.registry.uri)
            SchedulerService(settings, store, registry, clock, metrics, stop, streams=streams).run()
