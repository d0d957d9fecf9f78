"""Threshold rows inside a caller's transaction: the current ones, the past ones, and new ones. Rows never change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from models.api import ThresholdSpec
from monitor.errors import NotFound
from monitor.store.rows import ModelVersion, Threshold
from monitor.store.tables import model_versions, thresholds


def current(connection: Connection, version: ModelVersion) -> list[Threshold]:
    """Newest threshold of each class of ``version``, in the order of its classes."""
    newest = (
        sa.select(sa.func.max(thresholds.c.id))
        .where(thresholds.c.model_version_id == version.id)
        .group_by(thresholds.c.class_label)
    )
    found = connection.execute(sa.select(thresholds).where(thresholds.c.id.in_(newest))).mappings()
    by_class = {row["class_label"]: Threshold(**row) for row in found}
    return [by_class[label] for label in version.classes if label in by_class]


def history(connection: Connection, *, stream: str, limit: int) -> list[Threshold]:
    """Thresholds of all versions of ``stream``, newest first."""
    query = (
        sa.select(thresholds)
        .join(model_versions, model_versions.c.id == thresholds.c.model_version_id)
        .where(model_versions.c.stream == stream)
        .order_by(thresholds.c.id.desc())
        .limit(limit)
    )
    return [Threshold(**row) for row in connection.execute(query).mappings()]


def add(
    connection: Connection,
    version: ModelVersion,
    specs: Sequence[ThresholdSpec],
    *,
    source: str,
    cause: str | None,
    now: datetime,
) -> None:
    """Insert one row for each spec.

    Raises:
        NotFound: A spec names a class that the version does not know.
    """
    unknown = sorted({spec.class_label for spec in specs} - set(version.classes))
    if unknown:
        known = ", ".join(version.classes)
        msg = f"Version {version.number} of {version.stream} has no class {', '.join(unknown)}; it has {known}."
        raise NotFound(msg)
    common = {"model_version_id": version.id, "source": source, "cause": cause, "valid_from": now}
    if specs:
        connection.execute(thresholds.insert(), [{**common, **_values(spec)} for spec in specs])


def with_scores_of(specs: Sequence[ThresholdSpec], rows: Sequence[Threshold]) -> list[ThresholdSpec]:
    """The specs, where they bring no calibration scores, with those of the same class in ``rows``.

    A person who sets one number does not change which scores are normal: p-values must go on meaning the same.
    """
    by_class = {row.class_label: row for row in rows}
    return [_filled(spec, by_class.get(spec.class_label)) for spec in specs]


def values_by_class(rows: Sequence[Threshold]) -> dict[str, float]:
    """Threshold of each class, as the audit log keeps it."""
    return {row.class_label: row.value for row in rows}


def _filled(spec: ThresholdSpec, row: Threshold | None) -> ThresholdSpec:
    if row is None or len(spec.calibration_scores):
        return spec
    return replace(spec, calibration_scores=row.calibration_scores, n_calibration=row.n_calibration)


def _values(spec: ThresholdSpec) -> Mapping[str, Any]:
    return {
        "class_label": spec.class_label,
        "value": float(spec.value),
        "alpha": float(spec.alpha),
        "n_calibration": int(spec.n_calibration),
        "method": spec.method,
        "calibration_scores": spec.calibration_scores,
    }
