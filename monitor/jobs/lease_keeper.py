"""Keeps a lease alive on a thread of its own and says when it is lost. It does not acquire one."""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Self

from monitor.errors import Unavailable
from monitor.ports import Clock

if TYPE_CHECKING:
    from monitor.store.job_store import JobStore
    from monitor.store.rows import Lease

logger = logging.getLogger(__name__)

#: Renewals in one time to live: two may fail before the lease does.
RENEWALS_PER_TTL = 3


class LeaseKeeper:
    """Renews a lease from ``with`` to its end, then releases it.

    Safety does not rest on this thread: every write carries the lease and is fenced by its token. It rests on it that
    work which would be refused in the end stops early.

    Args:
        jobs: Where leases are.
        lease: Lease to keep.
        ttl_s: Time to live that each renewal gives it.
        clock: Wall clock for the expiry, monotonic clock for outages.
        stop: The caller's wish to end.
    """

    def __init__(self, jobs: JobStore, lease: Lease, *, ttl_s: float, clock: Clock, stop: threading.Event) -> None:
        self._jobs, self._lease, self._ttl_s, self._clock, self._stop = jobs, lease, ttl_s, clock, stop
        self._lost = threading.Event()
        self._done = threading.Event()
        self._renewed_at = clock.monotonic()
        self._thread = threading.Thread(target=self._loop, name=f"lease {lease.name}", daemon=True)

    @property
    def lost(self) -> bool:
        """Whether another process may hold the lease now."""
        return self._lost.is_set()

    @property
    def reason(self) -> str | None:
        """Why the work under the lease should end, or None."""
        if self.lost:
            return f"the lease {self._lease.name!r} was lost"
        return "the process was asked to end" if self._stop.is_set() else None

    def wait(self, timeout_s: float) -> None:
        """Wait until the stop signal, at most ``timeout_s``; a lost lease is seen at the next call of ``reason``."""
        self._stop.wait(timeout_s)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        with contextlib.suppress(Unavailable):  # it expires by itself
            self._jobs.release(self._lease)

    def _loop(self) -> None:
        while not self._done.wait(self._ttl_s / RENEWALS_PER_TTL) and not self.lost:
            self._renew()

    def _renew(self) -> None:
        try:
            held = self._jobs.renew(self._lease, ttl_s=self._ttl_s, now=self._clock.now())
        except Unavailable as error:
            held = self._clock.monotonic() - self._renewed_at < self._ttl_s
            logger.debug("%s not renewed: %s", self._lease.name, error, extra={"action": "lease_not_renewed"})
        else:
            self._renewed_at = self._clock.monotonic()
        if not held:
            logger.warning("Lease %s was lost", self._lease.name, extra={"action": "lease_lost"})
            self._lost.set()
