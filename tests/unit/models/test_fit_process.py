"""The training process: its files, its exit status, its silence after SIGTERM."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import api, artifact, fit_process
from models.gate import GateFigures, GateTolerance, decide
from tests.unit.models.blobs import blobs


@pytest.fixture
def request_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A good request without champion; niceness is left alone, because it cannot be taken back."""
    monkeypatch.setattr(os, "nice", lambda increment: 0)
    (x, y), (x_gate, labels_gate) = blobs(300), blobs(200, seed=4)
    np.savez(tmp_path / "rows.npz", x=x, y=y, x_gate=x_gate, labels_gate=labels_gate)
    fields = {
        "rows": str(tmp_path / "rows.npz"),
        "config": {"profile": "fast", "epochs": 2},
        "seed": 0,
        "output": str(tmp_path / "artifact"),
        "result": str(tmp_path / "result.json"),
        "champion": None,
    }
    path = tmp_path / "request.json"
    path.write_text(json.dumps(fields))
    return path


@pytest.fixture(autouse=True)
def _restore_signal() -> Any:
    """Main installs a handler; put the old one back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def change(path: Path, **fields: object) -> None:
    """Rewrite fields of a request."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def result_of(path: Path) -> dict[str, Any]:
    """The result beside a request."""
    result: dict[str, Any] = json.loads((path.parent / "result.json").read_text())
    return result


def test_main_stores_an_artifact_and_names_it_in_the_result(
    request_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Progress in JSON lines; the artifact loads with the digest; thresholds and figures are there."""
    assert fit_process.main([str(request_file)]) == fit_process.EXIT_DONE
    result = result_of(request_file)
    scorer = api.load(request_file.parent / "artifact", sha256=result["sha256"])
    assert list(scorer.card.classes) == [spec["class_label"] for spec in result["thresholds"]] == ["a", "b", "c"]
    assert result["card"]["config"]["profile"] == "fast"
    assert result["champion"] is None
    assert decide(None, GateFigures(**result["candidate"]), tolerance=GateTolerance(false_alarm_rate=1)).figures
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all({"progress", "message"} == set(line) for line in lines)
    assert 0 < lines[0]["progress"] < lines[-1]["progress"] <= 1


def test_main_measures_the_champion_on_the_same_rows(request_file: Path, trained: api.Trained) -> None:
    """With the thresholds that the request gives for it."""
    folder = request_file.parent / "champion"
    sha256 = artifact.save(trained, folder)
    thresholds = [{"class_label": spec.class_label, "value": 1e9} for spec in trained.thresholds]
    change(request_file, champion={"folder": str(folder), "sha256": sha256, "thresholds": thresholds})
    assert fit_process.main([str(request_file)]) == fit_process.EXIT_DONE
    result = result_of(request_file)
    assert result["champion"]["false_alarm_rate"] == 0.0
    assert result["champion"]["n_rows"] == result["candidate"]["n_rows"] == 200


def test_main_reports_type_and_message_when_training_fails(request_file: Path) -> None:
    """Exit 1; no artifact."""
    np.savez(request_file.parent / "rows.npz", x=np.zeros((3, 2)), y=np.array(["a"] * 3))
    assert fit_process.main([str(request_file)]) == fit_process.EXIT_FAILED
    error = result_of(request_file)["error"]
    assert error["type"] == "TrainingDataError"
    assert "at least 20" in error["message"]
    assert not (request_file.parent / "artifact").exists()


def test_main_refuses_rows_that_hold_python_objects(request_file: Path) -> None:
    """A pickle inside an npz is never loaded."""
    np.savez(request_file.parent / "rows.npz", x=np.array([object()]))
    assert fit_process.main([str(request_file)]) == fit_process.EXIT_FAILED
    assert "allow_pickle" in result_of(request_file)["error"]["message"]


@pytest.mark.parametrize("content", ["", "[]", '{"rows": "x"}', '{"rows": 1, "config": {"depth": 3}}'])
def test_main_answers_2_when_the_request_cannot_be_read(tmp_path: Path, content: str) -> None:
    """Nowhere to write a result to."""
    (tmp_path / "request.json").write_text(content)
    assert fit_process.main([str(tmp_path / "request.json")]) == fit_process.EXIT_WRONG_REQUEST


def test_process_leaves_nothing_when_it_is_terminated(request_file: Path) -> None:
    """A real process, SIGTERM after its first line of progress: exit 143, no artifact, no result, no temporary file."""
    change(request_file, config={"epochs": 100_000}, nice=0)
    before = sorted(path.name for path in request_file.parent.iterdir())
    process = subprocess.Popen(
        [sys.executable, "-m", "models.fit_process", str(request_file)], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert "progress" in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=120) == fit_process.EXIT_TERMINATED
    assert sorted(path.name for path in request_file.parent.iterdir()) == before
