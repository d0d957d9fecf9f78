"""Data time from payloads: epoch seconds, epoch milliseconds or ISO 8601, to epoch seconds. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Numbers from here on are milliseconds: as seconds they would be after the year 5138.
_MILLISECONDS_FROM = 1e11
#: End of the year 9999, the last that a datetime can hold.
EPOCH_LIMIT_S = 253402300799.0


def parse_event_times(
    values: Sequence[Any] | None, timestamps_ms: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Event time of each record in epoch seconds, and which could not be read.

    Args:
        values: From the payload (numbers or ISO 8601 strings), or None where the stream has no event time.
        timestamps_ms: Kafka timestamps, used where ``values`` is None.

    Returns:
        Seconds float64 (n,) and a mask bool (n,), True where the time is unusable.
    """
    if values is None:
        times = np.asarray(timestamps_ms, dtype=np.float64) / 1000.0
        return np.clip(times, 0.0, EPOCH_LIMIT_S), np.zeros(len(times), dtype=np.bool_)
    times = np.array([value if type(value) is float else _seconds(value) for value in values], dtype=np.float64)
    large = times >= _MILLISECONDS_FROM
    if large.any():  # a date written as text means what it says, also after the year 5138
        large &= np.array([not isinstance(value, str) for value in values])
        times = np.where(large, times / 1000.0, times)
    bad = ~((times >= 0) & (times <= EPOCH_LIMIT_S))
    return times, bad


def to_datetime(seconds: float) -> datetime:
    """Aware UTC datetime of an epoch time in seconds."""
    return datetime.fromtimestamp(float(seconds), UTC)


def _seconds(value: Any) -> float:
    """Epoch seconds of an ISO 8601 string (UTC where it names no zone); NaN where it cannot be read."""
    if not isinstance(value, str):
        return float(value)
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return float("nan")
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
