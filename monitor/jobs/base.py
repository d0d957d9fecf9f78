"""What every job is: a function of a scope that returns an outcome. No job and no scheduling here."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

from models.api import Progress
from monitor.ports import Clock, Metrics

if TYPE_CHECKING:
    from monitor.registry import Registry
    from monitor.settings_streams import StreamSettings
    from monitor.store import Store
    from monitor.store.rows import Lease

Status = Literal["succeeded", "failed", "rejected", "skipped"]

#: Key of a run's detail: it was cut off from outside, so it is worth doing again before its time.
INTERRUPTED = "interrupted"


class Cancellation(Protocol):
    """Why a job should end now; asked from the job's thread between its steps."""

    @property
    def reason(self) -> str | None:
        """One line for people, or None to go on."""
        ...


class JobCancelled(Exception):  # noqa: N818 - somebody asked
    """The job was asked to end, or lost its lease; nothing more is written."""


@dataclass(frozen=True, slots=True)
class JobPorts:
    """What jobs need of the world."""

    store: Store
    registry: Registry
    clock: Clock
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class JobScope:
    """One run of a job.

    Attributes:
        ports: The world.
        stream: Settings of the stream.
        now: Start of the run; a job asks no clock for decisions.
        lease: Goes with everything that the run writes.
        cancellation: To be asked between steps.
        progress: Called with (fraction, line).
        force: A person asks for it: guards against needless or unwanted work do not apply.
    """

    ports: JobPorts
    stream: StreamSettings
    now: datetime
    lease: Lease
    cancellation: Cancellation
    progress: Progress
    force: bool = False

    def check(self) -> None:
        """Go on only while nobody asks to stop.

        Raises:
            JobCancelled: Somebody does.
        """
        if reason := self.cancellation.reason:
            raise JobCancelled(reason)


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """How a run ended.

    Attributes:
        status: Of the run; ``"rejected"``: a candidate did not pass the gate.
        message: One line for people.
        detail: JSON for the run's row.
        retry_after_s: The run did not happen for a reason that passes; worth looking again then.
    """

    status: Status
    message: str
    detail: Mapping[str, Any] = field(default_factory=dict)
    retry_after_s: float | None = None


Job = Callable[[JobScope], JobOutcome]


def holder() -> str:
    """This process, as leases and runs name it."""
    return f"{socket.gethostname()}:{os.getpid()}"


def lease_name(stream: str, job: str) -> str:
    """Lease under which a job of a stream runs."""
    return f"job:{stream}:{job}"
