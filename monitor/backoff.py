"""How long to wait after a failure, and how often to say so. Pure; no sleeping here."""

from __future__ import annotations

import random

#: The first wait; short, because most failures are blips.
FIRST_DELAY_S = 0.2
#: The longest wait: what recovery costs at most after the world is back.
MAX_DELAY_S = 10.0


def delay_s(attempt: int, *, rng: random.Random) -> float:
    """Wait before the next try: exponential, capped, with full jitter so that many workers do not return together.

    Args:
        attempt: Failures in a row so far, from 1.
        rng: Source of the jitter.

    Returns:
        Seconds, uniform between half and all of min(cap, first * 2^(attempt - 1)).
    """
    ceiling = min(MAX_DELAY_S, FIRST_DELAY_S * 2.0 ** min(attempt - 1, 30))
    return rng.uniform(ceiling / 2, ceiling)


def worth_saying(attempt: int) -> bool:
    """True at attempts 1, 2, 4, 8, ...: an outage is told at once and then at a falling rate."""
    return attempt & (attempt - 1) == 0
