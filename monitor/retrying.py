"""Outages: wait with jitter and a cap, say so at a falling rate, count, and go on when the world is back."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from threading import Event
from typing import TypeVar

from monitor import metrics as m
from monitor.backoff import delay_s, worth_saying
from monitor.errors import BrokerUnavailable, Unavailable
from monitor.ports import Clock, Metrics

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Stopped(Exception):  # noqa: N818 - not an error: somebody asked
    """The process was asked to stop while it waited."""


class Outage:
    """The failures in a row of one thread of work.

    Args:
        stream: Whose work it is, for logs and metrics.
        clock: Sleeps, cut short by the stop signal.
        metrics: Measurements.
        rng: Source of the jitter.
    """

    def __init__(self, *, stream: str, clock: Clock, metrics: Metrics, rng: random.Random | None = None) -> None:
        self._stream = stream
        self._clock = clock
        self._metrics = metrics
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._attempt = 0
        self._since = 0.0

    @property
    def ongoing(self) -> bool:
        """Whether the last try failed."""
        return self._attempt > 0

    def wait(self, error: Unavailable) -> None:
        """Note one more failure, say so if it is time to, and sleep."""
        self._attempt += 1
        if self._attempt == 1:
            self._since = self._clock.monotonic()
            what = "broker" if isinstance(error, BrokerUnavailable) else "store"
            self._metrics.increment(m.OUTAGES, stream=self._stream, what=what)
        if worth_saying(self._attempt):
            logger.warning(
                "%s: try %d failed: %s Trying again.", self._stream, self._attempt, error, extra={"action": "outage"}
            )
        self._clock.sleep(delay_s(self._attempt, rng=self._rng))

    def over(self) -> None:
        """A try succeeded."""
        if self._attempt:
            lasted = self._clock.monotonic() - self._since
            logger.warning(
                "%s: back after %.1f s and %d tries", self._stream, lasted, self._attempt,
                extra={"action": "outage_over"},
            )  # fmt: skip
        self._attempt = 0


def until_available(call: Callable[[], T], *, outage: Outage, stop: Event) -> T:
    """Call until it succeeds.

    Raises:
        Stopped: The stop signal came first.
    """
    while not stop.is_set():
        try:
            result = call()
        except Unavailable as error:
            outage.wait(error)
        else:
            outage.over()
            return result
    raise Stopped
