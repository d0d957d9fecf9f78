"""The real clock behind the ``Clock`` seam, and the stop signal that cuts its sleeps short."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime


class SystemClock:
    """Wall and monotonic time of this machine.

    Args:
        stop: Set when the process should end; a sleep then returns at once.
    """

    def __init__(self, stop: threading.Event | None = None) -> None:
        self._stop = stop or threading.Event()

    def now(self) -> datetime:
        """Current time, aware, UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since an arbitrary start."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait for ``seconds`` or until the stop signal."""
        self._stop.wait(seconds)
