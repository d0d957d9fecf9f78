"""The life of the worker process: signals, one thread a stream, the scheduler beside them, a clean end."""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from models.api import use_threads
from monitor import wiring
from monitor.clock import SystemClock
from monitor.retrying import Outage, Stopped, until_available
from monitor.settings import fingerprint

if TYPE_CHECKING:
    from monitor.ports import Metrics
    from monitor.settings import Settings
    from monitor.settings_streams import StreamSettings
    from monitor.store import Store
    from monitor.worker import OnProgress

logger = logging.getLogger(__name__)


def run(
    settings: Settings,
    streams: Sequence[StreamSettings],
    *,
    until_caught_up: bool = False,
    with_scheduler: bool = False,
    on_progress: OnProgress | None = None,
) -> None:
    """Score the streams until SIGTERM, or until all have caught up.

    Raises:
        NarrowsError: What ended it, when it was not a signal.
    """
    use_threads(settings.worker.threads)
    stop = threading.Event()
    metrics = wiring.make_metrics(settings)
    with stopping_on_signals(stop, timeout_s=settings.worker.shutdown_timeout.total_seconds()):
        try:
            store = _open_store(settings, metrics, stop)
        except Stopped:
            return
        with ExitStack() as stack:
            stack.callback(store.close)
            if with_scheduler:
                stack.enter_context(_scheduler(settings, store, metrics, stop))
            works = [
                _stream_work(
                    settings, stream, store, metrics, stop, until_caught_up=until_caught_up, on_progress=on_progress
                )
                for stream in streams
            ]
            _run_all(works)


def _spare_the_collector() -> None:
    """Tell the garbage collector that what is loaded stays, and not to look at each batch's thousands of lists.

    Without it decoding takes a tenth longer. Cycles are rare here and still found.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


@contextmanager
def stopping_on_signals(stop: threading.Event, *, timeout_s: float) -> Iterator[None]:
    """SIGTERM and SIGINT set ``stop``; who does not end in time is ended, which loses nothing.

    Args:
        stop: The stop signal.
        timeout_s: Seconds after which the process exits with status 1.
    """

    def ask(number: int, _frame: FrameType | None) -> None:
        logger.info("Stopping on %s", signal.Signals(number).name, extra={"action": "stop_requested"})
        stop.set()
        watchdog = threading.Timer(timeout_s, _give_up, args=(timeout_s,))
        watchdog.daemon = True
        watchdog.start()
        watchdogs.append(watchdog)

    watchdogs: list[threading.Timer] = []
    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for watchdog in watchdogs:
            watchdog.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


def _give_up(timeout_s: float) -> None:
    logger.error(
        "Not ended %.0f s after the signal; exiting hard. Nothing is lost: what was not committed is read again.",
        timeout_s, extra={"action": "stop_forced"},
    )  # fmt: skip
    os._exit(1)


def _open_store(settings: Settings, metrics: Metrics, stop: threading.Event) -> Store:
    outage = Outage(stream="*", clock=SystemClock(stop), metrics=metrics)
    return until_available(lambda: wiring.make_store(settings), outage=outage, stop=stop)


def _stream_work(
    settings: Settings,
    stream: StreamSettings,
    store: Store,
    metrics: Metrics,
    stop: threading.Event,
    *,
    until_caught_up: bool,
    on_progress: OnProgress | None,
) -> Callable[[], None]:
    """What runs one stream from its introduction to its end."""
    reloader = wiring.make_reloader(settings, stream, store=store, metrics=metrics)
    clock = SystemClock(stop)
    outage = Outage(stream=stream.name, clock=clock, metrics=metrics)

    def introduce() -> None:
        store.streams.sync(stream.name, stream.topic, fingerprint(stream), now=clock.now())
        reloader.refresh()

    worker = wiring.make_worker(settings, stream, store=store, reloader=reloader, metrics=metrics, stop=stop)

    def work() -> None:
        try:
            until_available(introduce, outage=outage, stop=stop)
        except Stopped:
            return
        _spare_the_collector()
        reloader.start(interval_s=settings.worker.reload_interval.total_seconds())
        try:
            worker.run(until_caught_up=until_caught_up, on_progress=on_progress)
        finally:
            reloader.stop()

    return work


def _run_all(works: Sequence[Callable[[], None]]) -> None:
    """Run each on a thread of its own. One that fails is told and leaves the others alone; it is raised at the end."""
    if len(works) == 1:
        works[0]()
        return
    failures: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - told now, and raised by the main thread
            logger.log(logging.ERROR, "A stream ended, the others go on: %s", error, extra={"action": "stream_failed"})
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(work,), name=f"worker-{i}") for i, work in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


@contextmanager
def _scheduler(settings: Settings, store: Store, metrics: Metrics, stop: threading.Event) -> Iterator[None]:
    """The scheduler on a thread of its own, for one-process installs; ended with the workers."""
    from monitor.registry import Registry  # noqa: PLC0415 - only with --with-scheduler
    from monitor.scheduler import SchedulerService  # noqa: PLC0415

    service = SchedulerService(settings, store, Registry(settings.registry.uri), SystemClock(stop), metrics, stop)
    thread = threading.Thread(target=service.run, name="scheduler")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
