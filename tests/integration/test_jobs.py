"""Jobs against a real SQLite store, a real registry and a real tiny champion, trained on scanned digits."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits

import models.api
from models.api import Trained
from monitor.jobs import retrain
from monitor.jobs.child import ChildExit
from monitor.jobs.runner import run_job
from tests.jobs_builders import START, STREAM, Deployment

# A process that does what ``narrows jobs run`` does, with a short lease; talks in lines.
PROCESS = """
import sys, threading
from pathlib import Path
from tests.jobs_builders import STREAM, Deployment
from monitor.jobs.runner import run_job
from monitor.jobs import catalogue
from monitor.jobs.base import JobOutcome

def patient(scope):
    print("in", flush=True)
    sys.stdin.readline()
    return JobOutcome("succeeded", "done")

if sys.argv[2] == "patient":
    catalogue.JOBS = {"retrain": patient}
with Deployment.at(Path(sys.argv[1])) as deployment:
    outcome = run_job("retrain", stream=STREAM, ports=deployment.ports, stop=threading.Event(), ttl_s=2.0,
                      progress=lambda fraction, line: print(fraction, line, flush=True))
print(outcome.status, outcome.message, flush=True)
"""


@dataclass(frozen=True)
class Digits:
    """Rows of the digits 0, 1, 2 in random order: the first 300 are history, the others will be streamed."""

    x: NDArray[np.float32]
    labels: NDArray[np.str_]
    trained: Trained


@pytest.fixture(scope="module")
def digits() -> Digits:
    """One training for all tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    x, y = load_digits(return_X_y=True)
    rows = np.random.default_rng(0).permutation(np.flatnonzero(y < 3))  # the file's order is by writer
    x, labels = x[rows].astype(np.float32), y[rows].astype(np.str_)
    trained = models.api.fit(x[:300], labels[:300], config=STREAM.detector.to_config(), seed=0)
    torch.set_num_threads(before)
    return Digits(x, labels, trained)


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """Empty, open."""
    with Deployment.at(tmp_path) as opened:
        yield opened


def start_process(folder: Path, mode: str) -> subprocess.Popen[str]:
    """A process that runs ``retrain``, or (mode ``patient``) a stand-in that waits for a line."""
    return subprocess.Popen(
        [sys.executable, "-c", PROCESS, str(folder), mode],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )  # fmt: skip


def works(process: psutil.Process) -> bool:
    """Whether it still does anything; a zombie waits for its parent only."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_recalibrate_is_skipped_when_there_is_no_champion(deployment: Deployment) -> None:
    """Nothing to calibrate is no failure."""
    outcome = deployment.run("recalibrate")

    assert outcome.status == "skipped"
    assert "has no champion yet" in outcome.message


def test_recalibrate_writes_new_rows_when_samples_ask_for_it(deployment: Deployment, digits: Digits) -> None:
    """Rescored samples set the thresholds, within the step limit; old rows stay; repeated, it rests."""
    deployment.publish(digits.trained)
    before = deployment.values()
    deployment.stream(1.1 * digits.x[300:], list(digits.labels[300:]))

    first = deployment.run("recalibrate")

    after = deployment.values()
    scores = digits.trained.scorer.score(1.1 * digits.x[300:])
    assert first.status == "succeeded"
    for index, (old, new) in enumerate(zip(before, after, strict=True)):
        own = scores.score[scores.nearest == index]
        limited = first.detail["classes"][str(index)]["limited"]
        assert (own > new).mean() <= 0.05 or limited
        assert old / 1.2001 <= new <= old * 1.2001
    newest = deployment.store.models.threshold_history(STREAM.name)[0]
    assert newest.source == "recalibration"
    assert newest.cause
    assert len(deployment.store.models.threshold_history(STREAM.name)) > len(before)
    for _ in range(4):
        last = deployment.run("recalibrate")
    assert last.message == "no threshold had to move"


def test_recalibrate_is_skipped_with_numbers_when_there_are_few_samples(deployment: Deployment, digits: Digits) -> None:
    """The message says how many there are and how many it takes."""
    deployment.publish(digits.trained)
    deployment.stream(digits.x[300:330], [None] * 30)

    outcome = deployment.run("recalibrate")

    assert outcome.status == "skipped"
    assert "a class needs 20" in outcome.message


def test_recalibrate_respects_a_threshold_set_by_hand(deployment: Deployment, digits: Digits) -> None:
    """Until a person asks to include it."""
    deployment.publish(digits.trained)
    champion = deployment.store.models.champion(STREAM.name)
    assert champion is not None
    by_hand = [models.api.ThresholdSpec("0", 99.0, 0.05, 0, "manual", np.empty(0))]
    deployment.store.models.set_thresholds(
        champion.id, by_hand, source="manual", cause="too loud", who="ann", now=START
    )
    deployment.stream(digits.x[300:], [None] * len(digits.x[300:]))

    deployment.run("recalibrate")
    kept = deployment.values()[0]
    deployment.run("recalibrate", force=True)

    assert kept == 99.0
    assert deployment.values()[0] == pytest.approx(99.0 / 1.2)


def test_retrain_is_skipped_with_numbers_when_there_are_few_labels(deployment: Deployment, digits: Digits) -> None:
    """A plain reason, and no process started."""
    deployment.publish(digits.trained)
    deployment.stream(digits.x[300:337], list(digits.labels[300:337]))

    outcome = deployment.run("retrain")

    assert outcome.status == "skipped"
    assert outcome.message.startswith("only 37 labelled samples of 3 classes; needs 110")


def test_retrain_promotes_after_an_earlier_run_was_killed(
    deployment: Deployment, digits: Digits, tmp_path: Path
) -> None:
    """SIGKILL in the middle leaves no orphan and no half version; the next run goes on to the end."""
    deployment.publish(digits.trained)
    deployment.stream(digits.x[300:], list(digits.labels[300:]))
    process = start_process(tmp_path, "retrain")
    assert process.stdout is not None
    assert "training on" in process.stdout.readline()
    assert process.stdout.readline().startswith("0.")  # said by the training process itself
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 2

    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 10
    while any(map(works, family)) and time.monotonic() < deadline:
        threading.Event().wait(0.05)
    orphans = [member for member in family if works(member)]
    outcome = deployment.run("retrain")
    while outcome.status == "skipped" and outcome.retry_after_s:  # the dead process's lease lasts two seconds
        threading.Event().wait(0.2)
        outcome = deployment.run("retrain")

    champion = deployment.store.models.champion(STREAM.name)
    newest, killed = deployment.store.jobs.runs(job="retrain")
    assert not orphans
    assert outcome.status == "succeeded", outcome.message
    assert champion is not None
    assert champion.number == outcome.detail["model_version"] == 2
    assert champion.trained_to is not None
    assert champion.trained_to <= START + timedelta(minutes=len(digits.x) - 300)
    assert (newest.status, killed.status) == ("succeeded", "failed")
    assert killed.detail["interrupted"] is True
    assert list((tmp_path / "registry" / ".retrain" / STREAM.name).iterdir()) == []
    again = deployment.run("retrain")
    assert again.status == "skipped"
    assert "new since the champion was trained" in again.message


def test_retrain_rejects_with_the_reason_when_labels_are_shuffled(deployment: Deployment, digits: Digits) -> None:
    """Nothing can be learned from them; the champion goes on."""
    deployment.publish(digits.trained)
    labels = np.random.default_rng(0).permutation(digits.labels[300:])
    deployment.stream(digits.x[300:], list(labels))

    outcome = deployment.run("retrain")

    champion = deployment.store.models.champion(STREAM.name)
    assert outcome.status == "rejected", outcome.message
    assert "shuffled" in outcome.message or "Accuracy" in outcome.message or "right" in outcome.message
    assert champion is not None
    assert champion.number == 1
    assert deployment.store.jobs.runs(job="retrain")[0].status == "rejected"


FIGURES = {
    "accuracy": 0.9, "false_alarm_rate": 0.05, "pseudo_unseen_auroc": None, "score_diversity": 1.0,
    "effective_rank": 3.0, "n_rows": 60, "n_not_finite": 0,
}  # fmt: skip


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch, digits: Digits) -> Callable[..., None]:
    """Lets a made-up training process answer with figures of the candidate and the champion."""

    def prepare(*, candidate: dict[str, float], meanwhile: Callable[[], object] = lambda: None) -> None:
        def run_child(command: list[str], **_: object) -> ChildExit:
            request = json.loads(Path(command[-1]).read_text())
            sha256 = models.api.save(digits.trained, Path(request["output"]))
            thresholds = [{**asdict(spec), "calibration_scores": [1.0, 2.0]} for spec in digits.trained.thresholds]
            result = {"sha256": sha256, "thresholds": thresholds, "card": {}, "candidate": FIGURES | candidate,
                      "champion": FIGURES, "seconds": 1.0}  # fmt: skip
            Path(request["result"]).write_text(json.dumps(result))
            meanwhile()
            return ChildExit(0, "")

        monkeypatch.setattr(retrain, "run_child", run_child)

    return prepare


def test_retrain_keeps_a_rejected_version_with_its_reasons(
    deployment: Deployment, digits: Digits, answer: Callable[..., None]
) -> None:
    """The gate's words are in the version's note, the run's detail and the outcome."""
    deployment.publish(digits.trained)
    deployment.stream(digits.x[300:], list(digits.labels[300:]))
    answer(candidate={"accuracy": 0.5})

    outcome = deployment.run("retrain")

    rejected = deployment.store.models.version(STREAM.name, 2)
    champion = deployment.store.models.champion(STREAM.name)
    assert outcome.status == "rejected"
    assert (rejected.status, rejected.alias) == ("rejected", None)
    assert rejected.note == outcome.detail["reasons"][0]
    assert rejected.note.startswith("Accuracy is 50.00% against the champion's 90.00%")
    assert champion is not None
    assert champion.number == 1


def test_retrain_leaves_a_candidate_when_the_champion_changed_meanwhile(
    deployment: Deployment, digits: Digits, answer: Callable[..., None]
) -> None:
    """A person's promotion during the training is not undone by it."""
    deployment.publish(digits.trained)
    deployment.publish(digits.trained)
    deployment.stream(digits.x[300:], list(digits.labels[300:]))
    promote = deployment.store.models.promote
    answer(candidate={}, meanwhile=lambda: promote(STREAM.name, 2, who="ann", reason="better", now=START))

    outcome = deployment.run("retrain")

    champion = deployment.store.models.champion(STREAM.name)
    assert outcome.status == "rejected"
    assert "another version became champion" in outcome.message
    assert champion is not None
    assert champion.number == 2
    assert deployment.store.models.version(STREAM.name, 3).alias == "candidate"


def test_retrain_writes_nothing_when_its_lease_was_lost(
    deployment: Deployment, digits: Digits, answer: Callable[..., None]
) -> None:
    """A process that was stopped for too long wakes up and finds that its word counts no more."""
    deployment.publish(digits.trained)
    deployment.stream(digits.x[300:], list(digits.labels[300:]))
    jobs, name = deployment.store.jobs, f"job:{STREAM.name}:retrain"

    def take_over() -> None:
        later = datetime.now(UTC) + timedelta(hours=1)
        assert jobs.acquire(name, holder="other:1", ttl_s=60, now=later)

    answer(candidate={}, meanwhile=take_over)

    outcome = deployment.run("retrain")

    assert outcome.status == "failed"
    assert "no longer holds the lease" in outcome.message
    assert len(deployment.store.models.versions(STREAM.name)) == 1


def test_prune_removes_old_runs_and_orphaned_artifacts(deployment: Deployment, digits: Digits) -> None:
    """Rows past retention and folders that no version names go; the champion's stays."""
    deployment.publish(digits.trained)
    old = START - timedelta(days=365)
    run_id = deployment.store.jobs.start_run("recalibrate", STREAM.name, holder="dead:1", now=old)
    deployment.store.jobs.finish_run(run_id, status="succeeded", detail={}, now=old)
    artifact = next((deployment.ports.registry.root / STREAM.name).iterdir())
    orphan = artifact.with_name("0123456789ab")
    shutil.copytree(artifact, orphan)
    os.utime(orphan, (0, 0))

    outcome = deployment.run("prune")

    assert outcome.status == "succeeded"
    assert outcome.detail["rows"]["job_runs"] == 1
    assert outcome.detail["artifacts"] == ["digits/0123456789ab"]
    assert artifact.is_dir()


def test_run_job_runs_in_one_process_at_a_time(deployment: Deployment, tmp_path: Path) -> None:
    """The second is told who runs it since when; once the first has ended, it may."""
    process = start_process(tmp_path, "patient")
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"

    refused = deployment.run("retrain")
    said, _ = process.communicate("go on\n")
    allowed = deployment.run("retrain")

    assert refused.status == "skipped"
    assert refused.message.endswith(f":{process.pid}")
    assert said == "succeeded done\n"
    assert allowed.message.startswith("only 0 labelled samples")


def test_prune_ends_between_two_transactions_when_asked(deployment: Deployment) -> None:
    """A backlog of years must not hold up a shutdown; what is left waits for the next run."""
    old = START - timedelta(days=365)
    run_id = deployment.store.jobs.start_run("recalibrate", STREAM.name, holder="dead:1", now=old)
    deployment.store.jobs.finish_run(run_id, status="succeeded", detail={}, now=old)
    stop = threading.Event()
    stop.set()

    outcome = run_job("prune", stream=STREAM, ports=deployment.ports, stop=stop)

    assert outcome.message == "the process was asked to end"
    assert len(deployment.store.jobs.runs(job="recalibrate")) == 1
