"""Training in a process of its own: ``python -m models.fit_process REQUEST.json``.

It knows files, no broker and no database. The request is a JSON object:

    rows           .npz with ``x``, ``y`` and, to be judged by, ``x_gate``, ``labels_gate`` (never pickled)
    config         fields of ``DetectorConfig``
    seed           an integer
    output         folder of the new artifact; must not exist
    result         path of the result file
    champion       null, or {"folder", "sha256", "thresholds": [{"class_label", "value", "alpha"}, ...]}
    nice           niceness to add, optional (default 10)
    memory_bytes   cap on the address space, optional
    threads        threads of the matrix products, optional (default 1)

Order: (1) lower the priority, (2) read rows, (3) fit, with progress as JSON lines on stdout, (4) measure candidate and
champion on the same gate rows, (5) write the artifact whole, (6) write the result whole. A result that names an
artifact therefore has one.

Exit status: 0 the result holds the new version; 1 it holds ``{"error": {"type", "message"}}``; 2 the request cannot be
read; 143 stopped by SIGTERM (nothing half-written is left).
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import TrainingDataError
from models.values import DetectorConfig, FloatArray, ThresholdSpec, Trained

EXIT_DONE, EXIT_FAILED, EXIT_WRONG_REQUEST, EXIT_TERMINATED = 0, 1, 2, 143
DEFAULT_NICE = 10


class TerminatedError(BaseException):
    """SIGTERM arrived; a BaseException, so that no ``except Exception`` on the way out swallows it."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request as read; see the module."""

    rows: Path
    config: DetectorConfig
    seed: int
    output: Path
    result: Path
    champion: Mapping[str, Any] | None
    nice: int
    memory_bytes: int | None
    threads: int


def main(arguments: Sequence[str]) -> int:
    """Run one request; returns the exit status."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        request = read_request(Path(arguments[0]))
    except (IndexError, OSError, ValueError, KeyError, TypeError) as error:
        sys.stderr.write(f"Cannot read the request: {error!r}. Usage: python -m models.fit_process REQUEST.json\n")
        return EXIT_WRONG_REQUEST
    try:
        outcome = run(request)
    except TerminatedError:
        return EXIT_TERMINATED
    except Exception as error:  # noqa: BLE001 - the edge of the process: every failure becomes a result
        write_result(request.result, {"error": {"type": type(error).__name__, "message": str(error) or repr(error)}})
        return EXIT_FAILED
    write_result(request.result, outcome)
    return EXIT_DONE


def read_request(path: Path) -> Request:
    """Read a request file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not JSON, or a field has the wrong kind.
        KeyError: A field is missing.
        TypeError: A field of ``config`` is unknown.
    """
    fields = json.loads(path.read_text(encoding="utf-8"))
    return Request(
        rows=Path(fields["rows"]),
        config=DetectorConfig(**fields["config"]),
        seed=int(fields["seed"]),
        output=Path(fields["output"]),
        result=Path(fields["result"]),
        champion=fields.get("champion"),
        nice=int(fields.get("nice", DEFAULT_NICE)),
        memory_bytes=fields.get("memory_bytes"),
        threads=int(fields.get("threads", 1)),
    )


def run(request: Request) -> dict[str, Any]:
    """Fit, judge and store; returns the result.

    Raises:
        ModelError: What went wrong, with its remedy.
    """
    import torch  # noqa: PLC0415 - after the request is known to be good: a wrong one answers at once

    from models import artifact, training  # noqa: PLC0415 - they import torch

    started = time.perf_counter()
    _yield_to_others(request)
    torch.set_num_threads(max(1, request.threads))
    arrays = _read_rows(request.rows)
    trained = training.fit(arrays["x"], arrays["y"], config=request.config, seed=request.seed, progress=report_progress)
    figures = _judge(trained, arrays, request)
    sha256 = artifact.save(trained, request.output)
    return {
        "sha256": sha256,
        "thresholds": [threshold_fields(spec) for spec in trained.thresholds],
        "card": asdict(trained.scorer.card),
        **figures,
        "seconds": time.perf_counter() - started,
    }


def report_progress(fraction: float, message: str) -> None:
    """One JSON line on stdout."""
    sys.stdout.write(json.dumps({"progress": round(fraction, 4), "message": message}) + "\n")
    sys.stdout.flush()


def threshold_fields(spec: ThresholdSpec) -> dict[str, Any]:
    """A threshold as JSON fields."""
    return {**asdict(spec), "calibration_scores": spec.calibration_scores.tolist()}


def write_result(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON whole: to a file beside it, fsync, rename. NaN becomes null."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(_finite(content), file, indent=1, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _judge(trained: Trained, arrays: Mapping[str, Any], request: Request) -> dict[str, Any]:
    """Figures of candidate and champion on the gate rows; null where there are none."""
    from models import artifact, gate  # noqa: PLC0415 - they import torch
    from models.scorer import RegionScorer  # noqa: PLC0415 - it imports torch

    if arrays["x_gate"] is None:
        return {"candidate": None, "champion": None}
    assert isinstance(trained.scorer, RegionScorer)  # noqa: S101 - narrows the Protocol to what fit builds
    candidate = gate.measure(trained.scorer, trained.thresholds, arrays["x_gate"], arrays["labels_gate"])
    champion = None
    if request.champion is not None:
        scorer = artifact.load(Path(request.champion["folder"]), sha256=request.champion["sha256"])
        thresholds = _champion_thresholds(request.champion["thresholds"], scorer.card.classes)
        champion = asdict(gate.measure(scorer, thresholds, arrays["x_gate"], arrays["labels_gate"]))
    return {"candidate": asdict(candidate), "champion": champion}


def _champion_thresholds(fields: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> tuple[ThresholdSpec, ...]:
    """The champion's thresholds in the order of its card."""
    by_label = {entry["class_label"]: entry for entry in fields}
    missing = [label for label in classes if label not in by_label]
    if missing:
        raise TrainingDataError(f"The request has no champion threshold for {', '.join(missing)}.")
    none = np.zeros(0, dtype=np.float64)
    return tuple(
        ThresholdSpec(
            label, float(by_label[label]["value"]), float(by_label[label].get("alpha", 0.01)), 0, "given", none
        )
        for label in classes
    )


def _read_rows(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise TrainingDataError(f"Cannot read the training rows from {path}: {error}.") from error
    if "x" not in arrays:
        raise TrainingDataError(f"{path} has no array x.")
    return {
        "x": arrays["x"],
        "y": _labels(arrays.get("y")),
        "x_gate": _some(arrays.get("x_gate")),
        "labels_gate": _labels(arrays.get("labels_gate")),
    }


def _labels(values: NDArray[Any] | None) -> NDArray[np.str_] | None:
    return None if values is None or values.ndim == 0 else values.astype(np.str_)


def _some(values: FloatArray | None) -> FloatArray | None:
    return None if values is None or values.ndim != 2 or not len(values) else values


def _yield_to_others(request: Request) -> None:
    """Lower the priority, so that scoring on the same machine goes first, and cap memory where asked."""
    os.nice(max(0, request.nice))
    if request.memory_bytes:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = int(request.memory_bytes) if hard == resource.RLIM_INFINITY else min(int(request.memory_bytes), hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise TerminatedError


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
