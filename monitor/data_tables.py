"""Rows with named fields (JSON lines, CSV, Parquet) to arrays. What is what comes from the schema or is guessed."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np

from monitor.errors import UsageError
from monitor.recorded import Recorded, labels_of
from monitor.settings_streams import RecordSchema

_LABELS: Final = ("label", "y", "class", "target")
_TIMES: Final = ("t", "ts", "time", "timestamp", "event_time")
_FEATURES: Final = ("features", "x", "X")
_IDS: Final = ("id", "sample_id")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the parts of a row are.

    Attributes:
        features: Path of an array, or one path a feature.
        dimension: Number of features, where it is fixed.
    """

    features: str | tuple[str, ...]
    label: str | None
    time: str | None
    dimension: int | None = None


def read_json_lines(path: Path, schema: RecordSchema | None, max_bytes: int) -> Recorded:
    """Read one object a line; empty lines are skipped."""
    del max_bytes  # the arrays of a text file are smaller than its text
    return _to_arrays(_json_rows(path), path=path, schema=schema, unit="line")


def read_csv(path: Path, schema: RecordSchema | None, max_bytes: int) -> Recorded:
    """Read a table with a header line."""
    del max_bytes
    return _to_arrays(_csv_rows(path), path=path, schema=schema, unit="line")


def read_parquet(path: Path, schema: RecordSchema | None, max_bytes: int) -> Recorded:
    """Read a Parquet file, batch by batch."""
    try:
        from pyarrow import ArrowException, parquet  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise UsageError(f"{path}: Parquet needs an extra. Run: pip install 'narrows[parquet]'") from error
    try:
        file = parquet.ParquetFile(path)
        size = sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups))
        if size > max_bytes:
            raise UsageError(f"{path}: its columns are larger than {max_bytes / 2**20:,.0f} MiB. Take a sample.")
        rows = (row for batch in file.iter_batches(batch_size=4096) for row in batch.to_pylist())
        return _to_arrays(enumerate(rows), path=path, schema=schema, unit="row")
    except ArrowException as error:
        raise UsageError(f"{path}: not a usable Parquet file: {error}.") from error


def _json_rows(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (json.JSONDecodeError, RecursionError) as error:
                raise UsageError(f"{path}, line {number}: not JSON: {error}. Write one object a line.") from error
            if not isinstance(row, dict):
                raise UsageError(f"{path}, line {number}: not an object. Write one object a line.")
            yield number, row


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines, strict=True)
        try:
            for row in reader:
                if None in row or None in row.values():
                    columns = len(reader.fieldnames or ())
                    raise UsageError(f"{path}, line {reader.line_num}: has not the {columns} columns of the header.")
                yield reader.line_num, dict(row)
        except csv.Error as error:
            raise UsageError(f"{path}, line {reader.line_num}: not CSV: {error}.") from error


def _to_arrays(rows: Iterable[tuple[int, Any]], *, path: Path, schema: RecordSchema | None, unit: str) -> Recorded:
    layout: Layout | None = None
    features: list[list[float]] = []
    labels: list[str] = []
    times: list[float] = []
    for number, row in rows:
        where = f"{path}, {unit} {number}"
        layout = layout or _layout(row, schema=schema, where=where)
        vector = _vector(row, layout, where=where)
        if features and len(vector) != len(features[0]):
            raise UsageError(f"{where}: has {len(vector)} features, but the first row has {len(features[0])}.")
        features.append(vector)
        labels.append(_label(_optional(row, layout.label)))
        if layout.time is not None:
            times.append(_time(_at(row, layout.time, where=where), layout.time, where=where))
    if layout is None:
        raise UsageError(f"{path}: has no rows.")
    with np.errstate(over="ignore"):
        x = np.array(features, dtype=np.float64).astype(np.float32)
    t = None if layout.time is None else np.array(times, dtype=np.float64)
    return Recorded(x, np.array(labels, dtype=np.str_), t, path.name)


def _layout(row: Mapping[str, Any], *, schema: RecordSchema | None, where: str) -> Layout:
    if schema is not None:
        time = schema.event_time if schema.event_time and _optional(row, schema.event_time) is not None else None
        return Layout(schema.features, schema.label, time, schema.dimension)
    label = next((name for name in _LABELS if name in row), None)
    time = next((name for name in _TIMES if name in row), None)
    array = next((name for name in _FEATURES if isinstance(_parsed(row.get(name)), list)), None)
    if array is not None:
        return Layout(array, label, time)
    columns = tuple(name for name, value in row.items() if name not in {label, time, *_IDS} and _is_number(value))
    if not columns:
        raise UsageError(f"{where}: no features found: neither an array {', '.join(_FEATURES)} nor columns of numbers.")
    return Layout(columns, label, time)


def _vector(row: Mapping[str, Any], layout: Layout, *, where: str) -> list[float]:
    if isinstance(layout.features, str):
        values = _parsed(_at(row, layout.features, where=where))
        if not isinstance(values, list):
            _refuse(values, layout.features, "an array of numbers", where=where)
        names: Sequence[str] = [f"{layout.features}[{i}]" for i in range(len(values))]
    else:
        names = layout.features
        values = [_at(row, name, where=where) for name in names]
    if layout.dimension is not None and len(values) != layout.dimension:
        raise UsageError(
            f"{where}: has {len(values)} features; the stream's schema says dimension = {layout.dimension}."
        )
    return [_number(value, name, where=where) for value, name in zip(values, names, strict=True)]


def _number(value: Any, name: str, *, where: str) -> float:
    if not _is_number(value) or not math.isfinite(number := float(value)):
        _refuse(value, name, "a finite number", where=where)
    return number


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return False
        return True
    return isinstance(value, int | float) and not isinstance(value, bool)


def _label(value: Any) -> str:
    if value is None:
        return ""
    return str(labels_of(np.array([value]))[0]) if isinstance(value, float) else str(value).strip()


def _time(value: Any, name: str, *, where: str) -> float:
    if _is_number(value):
        return float(value)
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        _refuse(value, name, "a number or an ISO 8601 time", where=where)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _refuse(value: Any, name: str, wanted: str, *, where: str) -> NoReturn:
    shown = repr(value)
    raise UsageError(f"{where}, {name}: {shown if len(shown) < 60 else shown[:57] + '...'} is not {wanted}.")


def _parsed(value: Any) -> Any:
    """A list that a CSV cell holds as JSON text; anything else as it is."""
    if isinstance(value, str) and value.startswith("["):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value
    return value


def _at(row: Mapping[str, Any], path: str, *, where: str) -> Any:
    if path in row:  # a column of a table may have dots in its name
        return row[path]
    value: Any = row
    for key in path.split("."):
        if not isinstance(value, Mapping) or key not in value:
            raise UsageError(f"{where}: has no {path}. It has: {', '.join(list(row)[:20])}.")
        value = value[key]
    return value


def _optional(row: Mapping[str, Any], path: str | None) -> Any:
    if path is None:
        return None
    try:
        return _at(row, path, where="")
    except UsageError:
        return None
