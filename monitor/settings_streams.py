"""Settings of one stream, a model a table of the configuration file. Defaults only; reading is ``settings.py``."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ByteSize, ConfigDict, Field, model_validator

from models.api import DetectorConfig
from monitor.settings_types import Duration, Schedule, ScheduleField, parse_json_list


class Table(BaseModel):
    """A table of the file: unknown keys are errors, values do not change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, validate_default=True)


def _feature_paths(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(parse_json_list(value)) if value.startswith("[") else value
    if isinstance(value, list | tuple) and all(isinstance(path, str) for path in value):
        return tuple(value)
    raise ValueError('write the path of an array of numbers ("features") or a list of field paths (["a", "b.c"])')


class RecordSchema(Table):
    """Where the parts of a record are found. A path is a key, or keys joined by dots."""

    dimension: int = Field(ge=1, le=65_536, description="Number of features of a record.")
    features: Annotated[str | tuple[str, ...], BeforeValidator(_feature_paths)] = Field(
        default="features", description="Path of an array of numbers, or a list of field paths, one a feature."
    )
    id: str | None = Field(default=None, description="Path of the sample's own id; shown in alerts.")
    event_time: str | None = Field(
        default=None,
        description="Path of the event time (epoch seconds, epoch milliseconds or ISO 8601); else the Kafka timestamp.",
    )
    label: str | None = Field(default=None, description="Path of the class label, where records carry one.")
    payload: Literal["json", "float32"] = Field(
        default="json",
        description='Encoding: `"json"`, or `"float32"` (raw, little-endian; the key is the id, no label).',
    )
    extra: Literal["forbid", "ignore"] = Field(
        default="forbid", description='What fields not named here lead to: `"forbid"` (dead letter) or `"ignore"`.'
    )
    max_bytes: ByteSize = Field(
        default=ByteSize(1024**2),
        ge=1,
        description="Longer values become dead letters unread. Bytes, or text as `1MiB`.",
    )

    @model_validator(mode="after")
    def _paths_are_apart(self) -> RecordSchema:
        features = (self.features,) if isinstance(self.features, str) else self.features
        paths = [*features, *(path for path in (self.id, self.event_time, self.label) if path is not None)]
        for path in paths:
            if not all(path.split(".")):
                raise ValueError(f"{path!r} is not a path: write a key, or keys joined by single dots")
            inside = [other for other in paths if other.startswith(f"{path}.")]
            if paths.count(path) > 1 or inside:
                raise ValueError(f"{path!r} and {(inside or [path])[0]!r} name the same place; a value has one meaning")
        return self

    @model_validator(mode="after")
    def _features_match_dimension(self) -> RecordSchema:
        if isinstance(self.features, tuple) and len(self.features) != self.dimension:
            raise ValueError(
                f"features lists {len(self.features)} paths, but dimension is {self.dimension}: make them equal"
            )
        return self


class DetectorSettings(Table):
    """How the detector is built; needs no tuning."""

    encoder: Literal["mlp"] = Field(default="mlp", description="Encoder family.")
    profile: Literal["full", "fast"] = Field(
        default="full", description='`"full"` (best detection) or `"fast"` (cheapest score, for the highest rates).'
    )
    embedding_dim: int = Field(default=32, ge=1, le=4096, description="Size of the embedding.")
    false_alarm_rate: float = Field(
        default=0.01, gt=0, lt=0.5, description="Target share of normal records that is flagged, a fraction."
    )
    epochs: int = Field(default=22, ge=1, description="Upper bound of passes over the training rows.")

    def to_config(self) -> DetectorConfig:
        """The same values as the science takes them."""
        return DetectorConfig(**self.model_dump())


class BatchSettings(Table):
    """How records are taken together."""

    max_records: int = Field(default=8000, ge=1, description="Most records scored and written in one transaction.")
    poll_timeout: Duration = Field(default=timedelta(seconds=0.5), description="Longest wait for records of one poll.")


class SampleSettings(Table):
    """Which records are kept for calibration and training. Their number is bounded by these alone."""

    recent: int = Field(default=5000, ge=1, description="Newest records kept.")
    reservoir_per_class: int = Field(
        default=200, ge=0, description="Records of each class kept long, a uniform choice."
    )
    max_per_second: float = Field(default=200.0, gt=0, description="Most records kept a second.")


class DeadLetterSettings(Table):
    """What is kept of records that cannot be scored."""

    max_payload_bytes: ByteSize = Field(
        default=ByteSize(1024**2),
        ge=0,
        description="Longest payload kept whole; the rest is cut. Bytes, or text as `1MiB`.",
    )


class ScheduleSettings(Table):
    """When jobs run: an interval, `cron: <5 fields>` (UTC), or `off`."""

    recalibrate: ScheduleField = Field(
        default=Schedule(interval=timedelta(minutes=15)), description="Thresholds from recent normal scores."
    )
    retrain: ScheduleField = Field(default=Schedule(cron="0 3 * * *"), description="A new encoder, then the gate.")
    prune: ScheduleField = Field(default=Schedule(interval=timedelta(hours=1)), description="Retention.")
    retrain_time_limit: Duration = Field(
        default=timedelta(hours=1), description="Longest training; one that takes longer is ended and fails."
    )


class RecalibrationSettings(Table):
    """Limits of one recalibration."""

    min_samples: int = Field(default=100, ge=1, description="Fewest scores of a class that may move its threshold.")
    max_step_ratio: float = Field(
        default=1.2, gt=1, description="Largest factor by which one run may move a threshold."
    )


class GateSettings(Table):
    """What a retrained encoder may lose against the champion and still replace it."""

    accuracy_tolerance: float = Field(default=0.01, ge=0, le=1, description="Accuracy, as a fraction.")
    false_alarm_tolerance: float = Field(default=0.01, ge=0, le=1, description="False-alarm rate, as a fraction.")
    auroc_tolerance: float = Field(default=0.02, ge=0, le=1, description="AUROC, as a fraction.")
    min_rows: int = Field(default=200, ge=1, description="Fewest rows to judge by; with fewer the champion stays.")


class RetentionSettings(Table):
    """How long rows are kept."""

    anomalies: Duration = Field(default=timedelta(days=90), description="Anomalies.")
    resolved_incidents: Duration = Field(default=timedelta(days=30), description="Incidents since they were resolved.")
    dead_letters: Duration = Field(default=timedelta(days=30), description="Dead letters.")
    window_stats: Duration = Field(default=timedelta(days=90), description="Statistics by minute.")
    job_runs: Duration = Field(default=timedelta(days=90), description="Runs of scheduled jobs.")


def _stream_name(name: str) -> str:
    # A folder of the registry, part of a consumer group and of environment variables is named so.
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]{0,99}", name) is None:
        raise ValueError(f"{name!r} is not a name: begin with a letter, go on with letters, digits, '.', '_' or '-'")
    return name


class StreamSettings(Table):
    """One stream."""

    name: Annotated[str, AfterValidator(_stream_name)] = Field(description="Name in commands, tables and metrics.")
    topic: str = Field(min_length=1, max_length=249, description="Kafka topic.")
    record_schema: RecordSchema = Field(alias="schema")
    detector: DetectorSettings = Field(default_factory=DetectorSettings)
    batch: BatchSettings = Field(default_factory=BatchSettings)
    samples: SampleSettings = Field(default_factory=SampleSettings)
    dead_letters: DeadLetterSettings = Field(default_factory=DeadLetterSettings)
    schedule: ScheduleSettings = Field(default_factory=ScheduleSettings)
    recalibration: RecalibrationSettings = Field(default_factory=RecalibrationSettings)
    gate: GateSettings = Field(default_factory=GateSettings)
    retention: RetentionSettings = Field(default_factory=RetentionSettings)
