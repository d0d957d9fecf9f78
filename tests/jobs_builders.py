"""A small deployment for tests of jobs: a database and a registry in one folder. Imports no torch."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.api import Trained
from monitor.clock import SystemClock
from monitor.jobs.base import JobOutcome, JobPorts
from monitor.jobs.runner import run_job
from monitor.metrics import NoMetrics
from monitor.records import BatchOutcome, PartitionOutcome, Sample, TopicPartition
from monitor.registry import Registry
from monitor.settings_streams import StreamSettings
from monitor.store import Store, open_store

START = datetime(2026, 1, 1, tzinfo=UTC)
PLACE = TopicPartition("digits", 0)
STREAM = StreamSettings.model_validate(
    {
        "name": "digits",
        "topic": "digits",
        "schema": {"dimension": 64, "label": "label"},
        "detector": {"profile": "fast", "embedding_dim": 8, "epochs": 3, "false_alarm_rate": 0.05},
        "recalibration": {"min_samples": 20},
        "gate": {
            "min_rows": 50,
            "accuracy_tolerance": 0.15,
            "false_alarm_tolerance": 0.1,
            "auroc_tolerance": 0.2,
        },
    }
)


@dataclass(frozen=True)
class Deployment:
    """A database and a registry in one folder."""

    ports: JobPorts

    @classmethod
    def at(cls, folder: Path) -> Self:
        """Open; made where it is not there."""
        store = open_store(f"sqlite:///{folder}/narrows.db")
        return cls(JobPorts(store, Registry(str(folder / "registry")), SystemClock(), NoMetrics()))

    @property
    def store(self) -> Store:
        """Its database."""
        return self.ports.store

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()

    def publish(self, trained: Trained) -> None:
        """Version 1, champion."""
        uri, sha256 = self.ports.registry.save(STREAM.name, trained)
        card = trained.scorer.card
        self.store.models.publish(
            stream=STREAM.name, artifact_uri=uri, sha256=sha256, classes=card.classes, n_train=card.n_train,
            n_calibration=card.n_calibration, metrics=card.metrics,
            thresholds=trained.thresholds, now=START, who="test",
        )  # fmt: skip

    def stream(self, x: NDArray[np.float32], labels: Sequence[str | None]) -> None:
        """Keep rows as the pipeline does, one minute apart; scores as first emitted do not matter to the jobs."""
        samples = tuple(
            Sample(
                partition=PLACE, record_offset=i, sample_id=f"s{i}", event_time=START + timedelta(minutes=i),
                kept_at=START + timedelta(minutes=i), features=x[i], label=labels[i], predicted_class="0", score=1.0,
                flagged=False, reservoir_key=i / len(x),
            )
            for i in range(len(x))
        )  # fmt: skip
        expected = self.store.pipeline.claim(STREAM.name, {PLACE: 0})[PLACE]
        none = np.empty(0)
        part = PartitionOutcome(PLACE, expected, len(x), len(x), 0, none, none, 0, samples=samples)
        self.store.pipeline.write(BatchOutcome(STREAM.name, START, (part,)))

    def run(self, job: str, **options: bool) -> JobOutcome:
        """Run a job in this thread."""
        return run_job(job, stream=STREAM, ports=self.ports, stop=threading.Event(), **options)

    def values(self) -> list[float]:
        """The champion's thresholds, by class."""
        champion = self.store.models.champion(STREAM.name)
        assert champion is not None
        return [row.value for row in self.store.models.thresholds(champion.id)]
