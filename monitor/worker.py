"""The life of one stream's worker: open, step, back off, stop. What a step does is ``pipeline.py``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from threading import Event
from typing import TYPE_CHECKING

from monitor.errors import NotFound, Unavailable
from monitor.pipeline import Pipeline, StepReport
from monitor.records import TopicPartition
from monitor.retrying import Outage, Stopped, until_available

if TYPE_CHECKING:
    from monitor.ports import Clock, Metrics, PipelineStore, RecordSource

logger = logging.getLogger(__name__)

#: A line about progress this often, while there is any.
_TELL_EVERY_S = 30.0
#: With ``until_caught_up`` the stored offsets are compared with the end this often: other workers move them too.
_COMPARE_EVERY_S = 0.2

#: Called with records done and records to do, both since the start.
OnProgress = Callable[[int, int], None]


class Worker:
    """Runs the pipeline of one stream until told to stop. One thread.

    Args:
        stream: Name of the stream.
        open_source: Connects to Kafka; may raise ``BrokerUnavailable``.
        build: Makes the pipeline on an open source.
        store: For the stored offsets.
        clock: Time.
        metrics: Measurements.
        stop: The stop signal.
    """

    def __init__(
        self,
        *,
        stream: str,
        open_source: Callable[[], RecordSource],
        build: Callable[[RecordSource], Pipeline],
        store: PipelineStore,
        clock: Clock,
        metrics: Metrics,
        stop: Event,
    ) -> None:
        self._stream = stream
        self._open_source = open_source
        self._build = build
        self._store = store
        self._clock = clock
        self._stop = stop
        self._outage = Outage(stream=stream, clock=clock, metrics=metrics)
        self._total = 0

    def run(self, *, until_caught_up: bool = False, on_progress: OnProgress | None = None) -> None:
        """Work until the stop signal, or until the end offsets seen now are reached.

        Raises:
            NotFound: ``until_caught_up`` on a topic that does not exist.
            NarrowsError: Something that waiting does not mend.
        """
        try:
            source = until_available(self._open_source, outage=self._outage, stop=self._stop)
        except Stopped:
            return
        try:
            self._loop(source, until_caught_up=until_caught_up, on_progress=on_progress)
        except Stopped:
            logger.info("%s: stopped before it was connected", self._stream, extra={"action": "worker_stopped"})
        finally:
            source.close()
        logger.info("%s: stopped after %d records", self._stream, self._total, extra={"action": "worker_stopped"})

    def _loop(self, source: RecordSource, *, until_caught_up: bool, on_progress: OnProgress | None) -> None:
        pipeline = self._build(source)
        goal = self._goal(source) if until_caught_up else None
        told_at = compared_at = self._clock.monotonic()
        told_total = 0
        while not self._stop.is_set():
            try:
                report = pipeline.step()
                self._total += _handled(report)
                now = self._clock.monotonic()
                if goal is not None and now - compared_at >= _COMPARE_EVERY_S:
                    compared_at = now
                    reached = goal.reached(self._store.next_offsets(self._stream))
                    if on_progress:
                        on_progress(goal.done, goal.total)
                    if reached:
                        return
            except Unavailable as error:
                pipeline.recover()
                self._outage.wait(error)
                continue
            if not (report.idle and report.claimed):
                self._outage.over()
            if now - told_at >= _TELL_EVERY_S and self._total > told_total:
                self._tell((self._total - told_total) / (now - told_at))
                told_at, told_total = now, self._total

    def _tell(self, rate: float) -> None:
        logger.info(
            "%s: %d records, %.0f a second", self._stream, self._total, rate, extra={"action": "worker_progress"}
        )

    def _goal(self, source: RecordSource) -> _Goal:
        """The end of every partition as it is now, and where the store stands."""

        def ask() -> _Goal:
            partitions = source.partitions()
            first, end = source.beginning_offsets(partitions), source.end_offsets(partitions)
            stored = self._store.next_offsets(self._stream)
            return _Goal({key: stored.get(key, first[key]) for key in partitions}, end)

        goal = until_available(ask, outage=self._outage, stop=self._stop)
        if not goal.end:
            raise NotFound(f"The topic of stream {self._stream!r} does not exist, so there is no end to catch up with.")
        return goal


class _Goal:
    """Offsets to reach, and how far it is.

    Args:
        start: Where each partition stands.
        end: Where each ends.
    """

    def __init__(self, start: Mapping[TopicPartition, int], end: Mapping[TopicPartition, int]) -> None:
        self._start = start
        self.end = end
        self.done = 0
        self.total = sum(max(0, end[key] - start[key]) for key in end)

    def reached(self, stored: Mapping[TopicPartition, int]) -> bool:
        """Whether every partition is there; updates ``done``."""
        at = {key: max(self._start[key], min(end, stored.get(key, 0))) for key, end in self.end.items()}
        self.done = sum(at[key] - self._start[key] for key in at)
        return all(at[key] >= end for key, end in self.end.items())


def _handled(report: StepReport) -> int:
    return report.n_records + report.n_dead_letters + report.n_tombstones
