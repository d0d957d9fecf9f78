"""All jobs by name, and their schedules. The one list; order is the order of display."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from monitor.jobs.base import Job
from monitor.jobs.prune import prune
from monitor.jobs.recalibrate import recalibrate
from monitor.jobs.retrain import retrain

if TYPE_CHECKING:
    from monitor.settings_streams import StreamSettings
    from monitor.settings_types import Schedule

JOBS: Mapping[str, Job] = MappingProxyType({"recalibrate": recalibrate, "retrain": retrain, "prune": prune})


def schedules(stream: StreamSettings) -> dict[str, Schedule]:
    """Schedule of each job of a stream; jobs that are off are left out."""
    found = {name: getattr(stream.schedule, name) for name in JOBS}
    return {name: schedule for name, schedule in found.items() if schedule.enabled}
