"""``narrows dev`` as a user calls it: each command a process of its own, in an empty folder."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.acceptance]

COMMAND = [sys.executable, "-m", "monitor.cli", "dev"]
REPOSITORY = Path(__file__).parents[3]


class Dev:
    """Calls the command in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        """Begin a command."""
        kept = {name: value for name, value in os.environ.items() if name not in NAMED_SERVERS}
        return subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env={**kept, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "120", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str, **environment: str) -> str:
        """What a command prints on standard output; it must succeed."""
        with self.start(*arguments, **environment) as command:
            out, err = command.communicate(timeout=120)
        assert command.returncode == 0, err
        return out


NAMED_SERVERS = {"KAFKA_BOOTSTRAP_SERVERS", "NARROWS_STORE__URL", "NARROWS_DEV_FOLDER"}


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Dev]:
    """The command in an empty folder; whatever it left running is stopped afterwards."""
    command = Dev(tmp_path)
    yield command
    command("down", "--delete")


def runs(pid: int) -> bool:
    """Whether a process still does anything (a zombie does not)."""
    return psutil.pid_exists(pid) and bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)


def exports(out: str) -> dict[str, str]:
    """Variables that the printed lines set in a shell."""
    return dict(re.findall(r"^export (\w+)=(.*)$", out, flags=re.MULTILINE))


def test_dev_up_is_idempotent_and_down_stops_when_called_twice(dev: Dev) -> None:
    """The second `up` finds the servers of the first, by address and by process; `down` ends them."""
    first = dev("up", "--postgres")
    pids = {name: service["pid"] for name, service in json.loads(dev("status", "--json")).items()}

    again = dev("up", "--postgres", **exports(first))

    assert again == first
    services = json.loads(dev("status", "--json"))
    assert {name: service["pid"] for name, service in services.items()} == pids
    assert all(service["answers"] and service["source"] == "local" for service in services.values())
    assert exports(first)["KAFKA_BOOTSTRAP_SERVERS"] == services["kafka"]["address"]
    assert dev("down") == "Stopped Kafka and PostgreSQL.\n"
    assert not any(map(runs, pids.values()))
    assert dev("down") == "Nothing was running.\n"


def test_dev_up_starts_one_broker_when_called_at_once(dev: Dev) -> None:
    """Of two commands at the same time the second waits and finds the broker of the first."""
    with dev.start("up") as one, dev.start("up") as other:
        outs = [one.communicate(timeout=120), other.communicate(timeout=120)]

    assert [one.returncode, other.returncode] == [0, 0], outs
    assert outs[0][0] == outs[1][0]


def test_dev_up_keeps_the_address_when_the_broker_was_killed(dev: Dev) -> None:
    """After SIGKILL, the printed address stays true once `up` ran again."""
    first = dev("up")
    psutil.Process(json.loads(dev("status", "--json"))["kafka"]["pid"]).kill()

    assert json.loads(dev("status", "--json"))["kafka"]["source"] == "none"
    assert dev("up", **exports(first)) == first


def test_dev_starts_nothing_when_the_environment_names_servers(dev: Dev) -> None:
    """What the environment names wins, and its password is not printed."""
    named = {
        "KAFKA_BOOTSTRAP_SERVERS": "broker.example:9092",
        "NARROWS_STORE__URL": "postgresql+psycopg://narrows:secret@db.example/narrows",
    }
    out = dev("up", "--postgres", **named)

    assert "secret" not in out
    assert "export" not in out
    services = json.loads(dev("status", "--json", **named))
    assert {service["source"] for service in services.values()} == {"environment"}
    assert not (dev.folder / ".narrows").exists()


def test_dev_exits_2_when_used_wrongly(dev: Dev) -> None:
    """An unknown option is wrong use."""
    with dev.start("up", "--sideways") as command:
        command.communicate(timeout=60)

    assert command.returncode == 2


def test_dev_exits_1_with_the_remedy_when_maven_central_is_out_of_reach(dev: Dev, tmp_path: Path) -> None:
    """Without network and without jars the error says what to do."""
    nowhere = "http://127.0.0.1:9"
    no_network = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HTTPS_PROXY": nowhere, "https_proxy": nowhere}
    with dev.start("up", **no_network) as command:
        _out, err = command.communicate(timeout=120)

    assert command.returncode == 1
    assert "KAFKA_BOOTSTRAP_SERVERS" in err
    assert "Traceback" not in err
