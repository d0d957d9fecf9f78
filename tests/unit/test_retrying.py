"""Outages: waits grow with jitter and a cap, words come at a falling rate, the stop signal ends the wait."""

import logging
import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.backoff import MAX_DELAY_S, delay_s, worth_saying
from monitor.errors import BrokerUnavailable, StoreUnavailable
from monitor.metrics import OUTAGES
from monitor.retrying import Outage, Stopped, until_available
from tests.builders import FakeClock, RecordedMetrics


@given(st.integers(1, 10_000), st.integers())
def test_delay_is_between_half_and_all_of_a_capped_ceiling(attempt: int, seed: int) -> None:
    """However long it lasts, no wait is longer than the cap, and none is zero."""
    delay = delay_s(attempt, rng=random.Random(seed))
    assert 0.05 < delay <= MAX_DELAY_S


def test_worth_saying_falls_off() -> None:
    """Four hours of ten-second waits are eleven lines."""
    assert [attempt for attempt in range(1, 20) if worth_saying(attempt)] == [1, 2, 4, 8, 16]
    assert sum(worth_saying(attempt) for attempt in range(1, 1441)) == 11


def test_until_available_waits_until_the_world_is_back(caplog: pytest.LogCaptureFixture) -> None:
    """Counted once, told at a falling rate, and its end is told too."""
    clock, metrics, failures = FakeClock(), RecordedMetrics(), [StoreUnavailable()] * 5

    def call() -> str:
        if failures:
            raise failures.pop()
        return "there"

    outage = Outage(stream="s", clock=clock, metrics=metrics, rng=random.Random(0))
    with caplog.at_level(logging.WARNING):
        assert until_available(call, outage=outage, stop=threading.Event()) == "there"
    assert len(clock.slept) == 5
    assert clock.slept == sorted(clock.slept)
    assert metrics.counted == {(OUTAGES.name, "s", "store"): 1}
    assert [record.action for record in caplog.records] == ["outage", "outage", "outage", "outage_over"]
    assert not outage.ongoing


def test_until_available_ends_at_the_stop_signal() -> None:
    """A process that is asked to end does not wait for a database."""
    stop = threading.Event()
    outage = Outage(stream="s", clock=FakeClock(), metrics=RecordedMetrics())

    def call() -> None:
        stop.set()
        raise BrokerUnavailable

    with pytest.raises(Stopped):
        until_available(call, outage=outage, stop=stop)
