"""The way of a new user, command by command, on SQLite: init, check, train, look, change, review."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from monitor.store import open_store
from tests.acceptance.command import narrows, on_terminal, succeeded
from tests.store_builders import anomaly, dead_letter, outcome, part

#: Few and fast: what is tested is the command, not the science.
FAST = {"NARROWS_STREAMS__DIGITS__DETECTOR__PROFILE": "fast", "NARROWS_STREAMS__DIGITS__DETECTOR__EPOCHS": "3"}

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two trained versions and rows to review."""
    folder = tmp_path_factory.mktemp("project")
    digits = load_digits(n_class=4)
    np.savez(folder / "digits.npz", X=digits.data[:400].astype(np.float32), y=digits.target[:400])
    succeeded("init", "--from", "digits.npz", "--name", "digits", "--topic", "scans", cwd=folder)
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path) -> tuple[Any, Any]:
    """What the first and the second training printed."""
    first = succeeded("train", "digits.npz", "--seed", 1, "--json", cwd=folder, **FAST)
    second = succeeded("train", "digits.npz", "--json", cwd=folder, **FAST)
    return first.json, second.json


@pytest.fixture(scope="module")
def reviewed(folder: Path, trained: tuple[Any, Any]) -> Path:
    """The project after a worker flagged and refused records whose text is hostile."""
    why = {
        "nearest_class": "low",
        "distance": 3.0,
        "features": [
            {"feature": 7, "value": 1.5, "contribution": 2.0},
            {"feature": 2, "value": 0.1, "contribution": 0.5},
        ],
        "other_features": -0.25,
    }
    flagged = anomaly(1, sample_id=None, record_key="k\x1b[31m\n", explanation=why)
    store = open_store(f"sqlite:///{folder}/narrows.db")
    try:
        store.pipeline.claim("digits", {flagged.partition: 0})
        refused = dead_letter(2, payload=b'{"a": \x1b', payload_size=7)
        store.pipeline.write(outcome(part(0, 3, anomalies=[flagged], dead_letters=[refused]), stream="digits"))
    finally:
        store.close()
    return folder


def test_check_prints_the_effective_configuration_without_secrets(folder: Path) -> None:
    """As JSON, wherever a value came from."""
    shown = succeeded("check", "--show-config", cwd=folder, NARROWS_STORE__URL="postgresql+psycopg://u:s3cret@h/d")
    assert shown.json["store"]["url"] == "postgresql+psycopg://u:***@h/d"
    assert shown.json["streams"][0]["schema"]["dimension"] == 64


class TestTrain:
    def test_first_version_is_champion_and_a_later_one_candidate(self, trained: tuple[Any, Any]) -> None:
        """The keys that programs rely on."""
        first, second = trained
        assert (first["model_version"], first["alias"]) == (1, "champion")
        assert (second["model_version"], second["alias"]) == (2, "candidate")
        assert first["seconds"] > 0
        assert 0.5 < first["metrics"]["accuracy"] <= 1
        assert first["classes"] == ["0", "1", "2", "3"]

    def test_artifact_lies_in_the_registry_beside_the_file(self, folder: Path, trained: tuple[Any, Any]) -> None:
        """Named by its hash, and nothing temporary is left."""
        versions = succeeded("models", "list", "--json", cwd=folder).json
        there = sorted(path.relative_to(folder / "registry").as_posix() for path in (folder / "registry").glob("*/*"))
        assert there == sorted(version["artifact_uri"] for version in versions)

    def test_check_verifies_the_champion_and_names_a_broker_that_is_away(
        self, folder: Path, trained: tuple[Any, Any]
    ) -> None:
        """Each line says what is well or what to do; one failure makes the exit status 1."""
        ended = narrows("check", cwd=folder, timeout_s=60, KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
        assert ended.code == 1
        assert "ok    config: narrows.toml: digits" in ended.out
        assert "ok    champion digits: version 1, 4 classes, verified" in ended.out
        assert "fail  broker: " in ended.out
        assert "127.0.0.1:1" in ended.out
        assert "correct kafka.bootstrap_servers" in ended.out
        assert "Traceback" not in ended.err


class TestModels:
    def test_list_and_show_tell_the_same(self, folder: Path, trained: tuple[Any, Any]) -> None:
        """For people and for programs."""
        version = next(row for row in succeeded("models", "list", "--json", cwd=folder).json if row["number"] == 1)
        shown = succeeded("models", "show", 1, "--json", cwd=folder).json
        assert {key: shown[key] for key in version} == version
        assert [row["class_label"] for row in shown["thresholds"]] == shown["classes"]
        assert version["sha256"] in succeeded("models", "show", 1, cwd=folder).out

    def test_promote_and_rollback_change_the_champion_and_back(self, folder: Path, trained: tuple[Any, Any]) -> None:
        """Each says what was before."""
        assert "before: version 1" in succeeded("models", "promote", 2, "--reason", "test", cwd=folder).out
        back = succeeded("models", "rollback", "--json", cwd=folder).json
        assert (back["number"], back["alias"]) == (1, "champion")

    def test_show_lists_versions_when_there_is_no_such_one(self, folder: Path, trained: tuple[Any, Any]) -> None:
        """Exit status 1: the words were right, the row is not there."""
        ended = narrows("models", "show", 9, cwd=folder)
        assert ended.code == 1
        assert "1, 2" in ended.err


class TestThresholds:
    def test_set_changes_one_and_keeps_the_history(self, folder: Path, trained: tuple[Any, Any]) -> None:
        """No training, and the others stay as they were."""
        before = succeeded("thresholds", "list", "--json", cwd=folder).json
        new = succeeded("thresholds", "set", 2, 9.5, "--reason", "too loud", "--json", cwd=folder).json
        after = succeeded("thresholds", "list", "--json", cwd=folder).json
        assert (new["value"], new["source"], new["cause"]) == (9.5, "manual", "too loud")
        assert [row["value"] for row in after if row["class_label"] != "2"] == [
            row["value"] for row in before if row["class_label"] != "2"
        ]
        history = succeeded("thresholds", "list", "--history", "--json", cwd=folder).json
        assert history[0]["id"] == new["id"]
        assert len(history) == len(before) * 2 + 1

    def test_set_lists_classes_when_there_is_no_such_one(self, folder: Path, trained: tuple[Any, Any]) -> None:
        """A typing error must not pass as done."""
        ended = narrows("thresholds", "set", "x", 1, cwd=folder)
        assert ended.code == 2
        assert "0, 1, 2, 3" in ended.err


def test_evaluate_needs_no_configuration(folder: Path, tmp_path: Path) -> None:
    """The keys that programs rely on, as fractions."""
    words = ("evaluate", folder / "digits.npz", "--held-out", "1", "--seeds", "0", "--profile", "fast", "--json")
    report = succeeded(*map(str, words), cwd=tmp_path).json
    assert {"dataset", "protocol", "seeds", "train_seconds", "mean", "per_class"} <= set(report)
    assert (report["dataset"], report["seeds"]) == ("digits", [0])
    assert set(report["mean"]) >= {"auroc", "aupr", "fpr95", "id_accuracy", "false_alarm_rate", "detection_rate"}
    assert all(0 <= value <= 1 for value in report["mean"].values())
    assert [run["held_out"] for run in report["per_class"]] == ["1"]


class TestReview:
    def test_lists_are_empty_and_say_so_before_anything_happened(self, tmp_path: Path) -> None:
        """JSON for programs, a sentence for people, and only the store is needed."""
        environ = {"NARROWS_STORE__URL": "sqlite:///new.db"}
        assert succeeded("alerts", "list", "--json", cwd=tmp_path, **environ).json == []
        ended = succeeded("alerts", "list", cwd=tmp_path, **environ)
        assert (ended.out, "No anomalies" in ended.err) == ("", True)

    def test_alerts_show_draws_why(self, reviewed: Path) -> None:
        """Nearest class, ratio to the threshold, features; hostile text is escaped."""
        row = succeeded("alerts", "list", "--json", cwd=reviewed).json[0]
        assert row["record_key"] == "k\x1b[31m\n"
        text = succeeded("alerts", "show", row["id"], cwd=reviewed).out
        assert "Nearest class: low, at 1.50 times its threshold" in text
        assert "feature 7 = 1.5" in text
        assert "\x1b" not in text
        assert "k\\x1b[31m\\n" in succeeded("alerts", "list", cwd=reviewed).out

    def test_alerts_list_groups_by_incident(self, reviewed: Path) -> None:
        """The group counts its anomalies, and leads to them."""
        group = succeeded("alerts", "list", "--incidents", "--json", cwd=reviewed).json[0]
        assert (group["status"], group["anomaly_count"]) == ("open", 1)
        rows = succeeded("alerts", "list", "--incident", group["id"], "--json", cwd=reviewed).json
        assert [row["incident_id"] for row in rows] == [group["id"]]

    def test_dead_letters_show_the_payload_escaped(self, reviewed: Path) -> None:
        """The reason is a word to filter by."""
        row = succeeded("dead-letters", "list", "--reason", "invalid-json", "--json", cwd=reviewed).json[0]
        text = succeeded("dead-letters", "show", row["id"], cwd=reviewed).out
        assert '{"a": \\x1b' in text
        assert "\x1b" not in text


def test_db_status_upgrade_and_prune_end_well(folder: Path, trained: tuple[Any, Any]) -> None:
    """They may be repeated at any time."""
    status = succeeded("db", "status", "--json", cwd=folder).json
    assert status["up_to_date"]
    assert status["streams"] == ["digits"]
    assert succeeded("db", "upgrade", "--json", cwd=folder).json["schema_version"] == status["schema_version"]
    assert set(succeeded("db", "prune", "--json", cwd=folder).json) == {"digits"}


def test_narrow_terminal_gets_blocks_not_broken_tables(folder: Path, trained: tuple[Any, Any]) -> None:
    """Through a real terminal of 40 columns."""
    shown = on_terminal("models", "list", cwd=folder, columns=40)
    assert all(len(line) <= 40 for line in shown.splitlines())
    assert "alias: champion" in shown
