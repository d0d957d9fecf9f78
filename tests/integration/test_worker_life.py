"""The worker as a supervisor and an operator see it: bad input, outages, signals, a champion that is not there."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing

import pytest
from kafka import KafkaAdminClient
from kafka import TopicPartition as KafkaPartition

from monitor.local import KafkaServer, PostgresServer
from monitor.local.producer import send_all
from monitor.local.topics import create_topic
from tests.conftest import MakeTopic
from tests.deployment import Champion, Deployment, eventually, payloads

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

Deploy = Callable[..., Deployment]
GOOD = {"id": "g", "ts": "2024-05-01T12:00:00Z", "label": 0, "features": [0.1, -0.2, 0.3, 0.0]}


def good(**changes: object) -> bytes:
    """A valid record, or nearly."""
    return json.dumps(GOOD | changes).encode()


def test_bad_records_become_dead_letters_and_their_neighbours_are_scored(
    deploy: Deploy, make_topic: MakeTopic, bootstrap_servers: str
) -> None:
    """Each kind of bad input between two good records, through the real command, and redriven after a mend."""
    bad: dict[str, bytes] = {
        "invalid-json": b'{"id": ',
        "missing-field": b'{"id": "m", "ts": 1}',
        "extra-field": good(colour="red"),
        "wrong-dimension": good(features=[1, 2, 3]),
        "wrong-type": good(features=[1, "two", 3, 4]),
        "not-finite": good(features=[1, float("nan"), 3, float("inf")]),
        "out-of-range": good(features=[1, 1e39, 3, 4]),
        "invalid-event-time": good(ts="noon"),
        "too-large": good(id="x" * 20_000_000),
    }
    values: list[bytes | None] = [good()]
    for value in bad.values():
        values += [value, good()]
    values += [b"\x00\xff\xfe binary", None, good()]
    topic = make_topic(max_message_bytes="33554432")
    send_all(bootstrap_servers, topic=topic, values=values)
    deployment = deploy("bad", topic=topic)
    deployment.narrows("run", "--until-caught-up")
    found = deployment.results()
    assert [reason for *_, reason in found["dead_letters"]] == [*bad, "invalid-json"]
    assert found["counts"] == [(len(bad) + 2, 0, len(bad) + 1, 1)]
    assert found["offsets"] == [(topic, 0, len(values))]

    listed = json.loads(deployment.narrows("dead-letters", "list", "--json").stdout)
    assert len(listed) == len(bad) + 1
    deployment.config.write_text(
        deployment.config.read_text().replace('max_bytes = "1MiB"', 'max_bytes = "1MiB"\nextra = "ignore"')
    )
    report = json.loads(deployment.narrows("dead-letters", "redrive", "--all", "--json").stdout)
    assert (report["redriven"], report["cut"]) == (1, 1)
    assert sum(report["still_invalid"].values()) == len(bad) - 1
    again = json.loads(deployment.narrows("dead-letters", "redrive", "--all", "--json").stdout)
    assert again["redriven"] == 0
    assert deployment.results()["counts"] == [(len(bad) + 3, 0, len(bad) + 1, 1)]


def test_sigterm_ends_a_busy_worker_with_exit_0_within_ten_seconds(
    deploy: Deploy, make_topic: MakeTopic, bootstrap_servers: str
) -> None:
    """The batch is finished and committed, and the group is left."""
    topic = make_topic()
    send_all(bootstrap_servers, topic=topic, values=payloads(6000, seed=1))
    deployment = deploy("stopped", topic=topic, max_records=20)
    worker = deployment.start("run")
    try:
        eventually(lambda: sum(deployment.offsets().values()) > 0, what="the first batch")
        started = time.monotonic()
        assert worker.stop(timeout_s=12) == 0
        assert time.monotonic() - started < 10
    finally:
        worker.kill()
    with KafkaAdminClient(bootstrap_servers=bootstrap_servers) as admin:
        committed = admin.list_group_offsets("narrows.s")["narrows.s"][KafkaPartition(topic, 0)].offset
    assert 0 < committed <= sum(deployment.offsets().values())
    deployment.narrows("run", "--until-caught-up")
    assert sum(deployment.offsets().values()) == 6000


def test_worker_survives_kill_and_restart_of_the_broker(
    tmp_path_factory: pytest.TempPathFactory, private_kafka_server: KafkaServer, small_champion: Champion
) -> None:
    """Down at the start, up, killed in the middle, up again: it says so, goes on, and nothing is lost or doubled."""
    server = private_kafka_server
    values = payloads(2000, seed=3)
    create_topic(server.bootstrap_servers, name="numbers")
    send_all(server.bootstrap_servers, topic="numbers", values=values)
    server.kill()
    folder = tmp_path_factory.mktemp("outage")
    deployment = Deployment(
        folder, store_url=f"sqlite:///{folder / 'narrows.db'}", bootstrap_servers=server.bootstrap_servers,
        topic="numbers", max_records=20,
    )  # fmt: skip
    deployment.publish(small_champion)
    worker = deployment.start("run")
    try:
        eventually(lambda: "action=outage" in worker.text(), what="a word about the outage")
        server.restart()
        eventually(lambda: sum(deployment.offsets().values()) >= 100, what="progress")
        server.kill()
        server.restart()
        send_all(server.bootstrap_servers, topic="numbers", values=values)
        eventually(lambda: sum(deployment.offsets().values()) == 4000, timeout_s=120, what="the end")
        assert worker.stop() == 0
    finally:
        worker.kill()
    (counts,) = deployment.results()["counts"]
    assert counts[0] + counts[2] + counts[3] == 4000
    assert counts[1] == deployment.query("SELECT count(*) FROM anomalies")[0][0] > 40


@pytest.mark.postgres
def test_worker_survives_kill_and_restart_of_the_database(
    deploy: Deploy, make_topic: MakeTopic, bootstrap_servers: str, private_postgres_server: PostgresServer
) -> None:
    """The database dies in the middle of the run: rows as in an undisturbed one."""
    topic = make_topic(partitions=2)
    for partition in (0, 1):
        values = payloads(1500, seed=partition)
        send_all(bootstrap_servers, topic=topic, values=values, partition=partition)
    calm = deploy("calm", topic=topic)
    calm.narrows("run", "--until-caught-up")
    url = private_postgres_server.create_database("narrows_life")
    deployment = deploy("database", topic=topic, store_url=url, max_records=20)
    worker = deployment.start("run")
    try:
        eventually(lambda: sum(deployment.offsets().values()) >= 100, what="progress")
        private_postgres_server.kill()
        eventually(lambda: "action=outage" in worker.text(), what="a word about the outage")
        private_postgres_server.restart()
        eventually(lambda: sum(deployment.offsets().values()) == 3000, what="the end")
        assert worker.stop() == 0
    finally:
        worker.kill()
    assert deployment.results() == calm.results()


def test_run_without_a_champion_says_which_command_trains_one(
    tmp_path_factory: pytest.TempPathFactory, topic: str, bootstrap_servers: str
) -> None:
    """Exit 1 at once, so that a supervisor and a person notice."""
    folder = tmp_path_factory.mktemp("none")
    deployment = Deployment(
        folder, store_url=f"sqlite:///{folder / 'narrows.db'}", bootstrap_servers=bootstrap_servers, topic=topic
    )
    done = deployment.narrows("run", "--until-caught-up", check=False)
    assert done.returncode == 1
    assert "narrows train FILE --stream s" in done.stderr
    assert "Traceback" not in done.stderr


def test_worker_keeps_its_champion_when_the_new_one_was_tampered_with(
    deploy: Deploy, topic: str, bootstrap_servers: str, small_champion: Champion
) -> None:
    """A promoted version whose file changed is refused, and the old one goes on."""
    deployment = deploy("tampered", topic=topic)
    worker = deployment.start("run")
    try:
        eventually(lambda: "judges" in worker.text(), what="the first champion")
        weights = deployment.folder / "registry" / small_champion.artifact_uri / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1] + b"?")
        with deployment.store() as store:
            card, now = small_champion.trained.scorer.card, store.pipeline._now()
            number = store.models.publish(
                stream="s", artifact_uri=small_champion.artifact_uri, sha256=small_champion.sha256,
                classes=card.classes, n_train=1, n_calibration=1, metrics={},
                thresholds=small_champion.trained.thresholds, now=now, who="test",
            ).number  # fmt: skip
            store.models.promote("s", number, who="test", reason="test", now=now)
        eventually(lambda: "action=champion_refused" in worker.text(), what="the refusal")
        send_all(bootstrap_servers, topic=topic, values=payloads(500, seed=5))
        eventually(lambda: sum(deployment.offsets().values()) == 500, what="the records")
        assert worker.stop() == 0
    finally:
        worker.kill()
    assert deployment.query("SELECT DISTINCT model_version_id FROM anomalies") == [(1,)]


def test_a_second_signal_or_a_stopped_store_does_not_hang_the_worker(deploy: Deploy, topic: str) -> None:
    """While another process holds the SQLite lock the worker backs off, and still ends when asked."""
    deployment = deploy("locked", topic=topic)
    worker = deployment.start("run")
    try:
        eventually(lambda: "judges" in worker.text(), what="the champion")
        with closing(sqlite3.connect(deployment.folder / "narrows.db", isolation_level=None)) as lock:
            lock.execute("BEGIN IMMEDIATE")
            worker.process.send_signal(signal.SIGTERM)
            worker.process.send_signal(signal.SIGINT)
            worker.wait(timeout_s=15)
            lock.execute("ROLLBACK")
    finally:
        worker.kill()


def test_a_stream_that_cannot_run_leaves_the_others_alone(
    deploy: Deploy, make_topic: MakeTopic, bootstrap_servers: str
) -> None:
    """One of two has no champion: the other is scored to its end, and the exit status says that one failed."""
    topic = make_topic()
    send_all(bootstrap_servers, topic=topic, values=payloads(300, seed=8))
    deployment = deploy("two", topic=topic)
    second = deployment.config.read_text().partition("[[streams]]")[2].replace('name = "s"', 'name = "untrained"')
    with deployment.config.open("a") as file:
        file.write(f"\n[[streams]]{second}")
    done = deployment.narrows("run", "--until-caught-up", check=False)
    assert done.returncode == 1
    assert "narrows train FILE --stream untrained" in done.stderr
    assert "Traceback" not in done.stderr
    assert sum(deployment.offsets().values()) == 300
