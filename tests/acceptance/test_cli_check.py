"""``narrows check`` and ``narrows db`` against a real broker and a real PostgreSQL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer

from tests.acceptance.command import narrows, succeeded
from tests.conftest import MakeTopic

pytestmark = pytest.mark.acceptance


def findings(folder: Path, bootstrap_servers: str, *, topic: str) -> dict[str, Any]:
    """Findings of a check by what was looked at."""
    if not (folder / "narrows.toml").exists():
        succeeded("init", "--topic", topic, "--dimension", 2, "--bootstrap", bootstrap_servers, cwd=folder)
    shown = narrows("check", "--json", cwd=folder).json
    return {finding["check"]: finding for finding in shown["findings"]}


def send(bootstrap_servers: str, topic: str, *values: Any) -> None:
    """Produce; what is not bytes as JSON."""
    producer = KafkaProducer(bootstrap_servers=bootstrap_servers)
    for number, value in enumerate(values):
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        producer.send(topic, content, partition=number % 2)
    producer.close()


@pytest.mark.kafka
class TestBroker:
    def test_topic_that_does_not_exist_is_a_warning(self, tmp_path: Path, bootstrap_servers: str) -> None:
        """The worker waits for it, so the configuration is not wrong yet."""
        found = findings(tmp_path, bootstrap_servers, topic="not-there-yet")
        assert found["broker"]["status"] == "ok"
        assert found["topic"]["status"] == "warn"
        assert "not-there-yet does not exist yet" in found["topic"]["detail"]

    def test_records_are_held_against_the_schema(
        self, tmp_path: Path, bootstrap_servers: str, make_topic: MakeTopic
    ) -> None:
        """All wrong is a failure, some wrong a warning, and the first reason is shown."""
        topic = make_topic(partitions=2)
        send(bootstrap_servers, topic, {"features": [1]}, b"{", b"\x00")
        found = findings(tmp_path, bootstrap_servers, topic=topic)
        assert found["topic"]["detail"] == f"{topic}: 2 partitions, 3 records"
        assert found["records"]["status"] == "fail"
        assert found["records"]["detail"].startswith("3 of 3 do not fit the schema (")
        send(bootstrap_servers, topic, *({"id": n, "ts": n, "label": "a", "features": [1, n]} for n in range(40)))
        found = findings(tmp_path, bootstrap_servers, topic=topic)
        assert found["records"]["status"] == "ok"
        assert found["records"]["detail"] == "the newest 40 fit the schema"


@pytest.mark.postgres
def test_postgresql_is_changed_only_by_db_upgrade(tmp_path: Path, postgres_url: str) -> None:
    """Every other command says so, with exit status 1, and works after it."""
    environ = {"NARROWS_STORE__URL": postgres_url}
    behind = narrows("alerts", "list", cwd=tmp_path, **environ)
    assert behind.code == 1
    assert "narrows db upgrade" in behind.err
    upgraded = succeeded("db", "upgrade", cwd=tmp_path, **environ)
    assert "schema version" in upgraded.out
    assert succeeded("alerts", "list", "--json", cwd=tmp_path, **environ).json == []
    assert succeeded("db", "status", "--json", cwd=tmp_path, **environ).json["up_to_date"]


def test_database_that_is_away_is_named_without_its_password(tmp_path: Path) -> None:
    """Within the time that a person waits."""
    url = "postgresql+psycopg://u:s3cret@127.0.0.1:1/narrows"
    ended = narrows("alerts", "list", cwd=tmp_path, timeout_s=30, NARROWS_STORE__URL=url)
    assert ended.code == 1
    assert "127.0.0.1" in ended.err
    assert "s3cret" not in ended.err
