"""The files between a job and its training process."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from models.api import DetectorConfig, ThresholdSpec
from models.fit_process import read_request
from monitor.jobs.fit_request import (
    RESULT,
    CandidateUnfit,
    ChampionFiles,
    Rows,
    TrainingFailed,
    progress_of,
    read_result,
    write_request,
)

ROWS = Rows(np.zeros((2, 3), np.float32), np.array(["a", "b"]), np.ones((1, 3), np.float32), np.array(["a"]))
SPEC = ThresholdSpec("a", 2.0, 0.01, 2, "conformal", np.array([1.0, 2.0]))


def test_write_request_is_what_the_training_process_reads(tmp_path: Path) -> None:
    """Both sides agree on every field, and nothing is pickled."""
    champion = ChampionFiles(tmp_path / "v1", "ab" * 32, [SPEC])

    request = read_request(write_request(tmp_path, ROWS, config=DetectorConfig(epochs=3), seed=7, champion=champion))

    assert (request.config, request.seed, request.result) == (DetectorConfig(epochs=3), 7, tmp_path / RESULT)
    assert request.champion == {
        "folder": str(tmp_path / "v1"),
        "sha256": "ab" * 32,
        "thresholds": [{"class_label": "a", "value": 2.0, "alpha": 0.01}],
    }
    with np.load(request.rows, allow_pickle=False) as arrays:
        assert arrays["y"].tolist() == ["a", "b"]
        assert arrays["x_gate"].shape == (1, 3)


def test_read_result_brings_figures_with_nan_for_null(tmp_path: Path) -> None:
    """JSON has no NaN; what could not be measured must not become zero."""
    spec = {"class_label": "a", "value": 2.0, "alpha": 0.01, "n_calibration": 2, "method": "conformal",
            "calibration_scores": [1.0, 2.0]}  # fmt: skip
    answer = {"sha256": "cd", "thresholds": [spec], "card": {}, "candidate": {"accuracy": None}, "champion": None,
              "seconds": 1.5}  # fmt: skip
    (tmp_path / RESULT).write_text(json.dumps(answer))

    result = read_result(tmp_path, status=0, stderr_tail="")

    assert math.isnan(result.candidate["accuracy"])
    assert result.champion is None
    assert result.thresholds[0].calibration_scores.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(("name", "error"), [("CollapseError", CandidateUnfit), ("TrainingDataError", TrainingFailed)])
def test_read_result_raises_what_the_process_said(name: str, error: type[Exception], tmp_path: Path) -> None:
    """A collapsed encoder is a verdict on the candidate; anything else is a failure."""
    (tmp_path / RESULT).write_text(json.dumps({"error": {"type": name, "message": "no"}}))

    with pytest.raises(error, match=r"^no$"):
        read_result(tmp_path, status=1, stderr_tail="")


def test_read_result_shows_the_last_words_when_there_is_no_answer(tmp_path: Path) -> None:
    """Killed for memory, or a missing package."""
    with pytest.raises(TrainingFailed, match="status 137 and without an answer: Killed"):
        read_result(tmp_path, status=137, stderr_tail="Traceback\nKilled\n")


@pytest.mark.parametrize(
    ("line", "expected"),
    [('{"progress": 0.5, "message": "epoch 3"}', (0.5, "epoch 3")), ("a warning", None), ('{"other": 1}', None)],
)
def test_progress_of_ignores_what_is_no_progress(line: str, expected: tuple[float, str] | None) -> None:
    """Libraries print what they like."""
    assert progress_of(line) == expected
