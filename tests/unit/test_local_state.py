"""What the folder of a local server remembers, and what keeps two commands apart; no server is started."""

import os
import socket
import struct
import threading
from pathlib import Path

import pytest

from monitor.local import LocalError, PortTakenError
from monitor.local.dev import without_password
from monitor.local.errors import StartError, read_tail
from monitor.local.jars import cache_folder
from monitor.local.kafka_probe import has_brokers
from monitor.local.kafka_server import escape_property
from monitor.local.process import ServerProcess
from monitor.local.state import (
    FIRST_PORT,
    LAST_PORT,
    ServerState,
    build_once,
    choose_port,
    load_state,
    locked,
    require_free,
)
from monitor.local.unprivileged import make_reachable


def test_state_is_read_back_when_saved(tmp_path: Path) -> None:
    """What one command saves, another loads."""
    state = ServerState(pid=1, started_at=2.5, port=20_001, options={"a.b": "c"})

    state.save(tmp_path)

    assert load_state(tmp_path) == state


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"unknown": 1}'])
def test_load_state_is_none_when_the_file_is_unusable(tmp_path: Path, text: str) -> None:
    """A half-written or foreign file counts as no state."""
    (tmp_path / "server.json").write_text(text)

    assert load_state(tmp_path) is None


def test_locked_fails_when_another_holds_the_folder(tmp_path: Path) -> None:
    """The second one in gives up after its time-out, with the folder in the message."""
    with locked(tmp_path), pytest.raises(LocalError, match=tmp_path.name), locked(tmp_path, timeout_s=0.0):
        pytest.fail("two hold the lock")


def test_locked_waits_when_another_leaves(tmp_path: Path) -> None:
    """The second one gets in once the first has left."""
    entered = threading.Event()

    def enter() -> None:
        with locked(tmp_path, timeout_s=20.0):
            entered.set()

    with locked(tmp_path):
        second = threading.Thread(target=enter)
        second.start()
        assert not entered.is_set()
    second.join(timeout=20.0)

    assert entered.is_set()


def test_build_once_leaves_nothing_when_the_builder_fails(tmp_path: Path) -> None:
    """A folder whose making failed is not there, and the next attempt starts from nothing."""

    def fail(folder: Path) -> None:
        folder.mkdir()
        (folder / "half").touch()
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        build_once(tmp_path / "data", build=fail)
    assert not (tmp_path / "data").exists()

    build_once(tmp_path / "data", build=Path.mkdir)
    assert list((tmp_path / "data").iterdir()) == []

    build_once(tmp_path / "data", build=fail)  # it exists: the builder is not called


def test_choose_port_keeps_the_preferred_one_when_free_only() -> None:
    """A busy port is passed over; the replacement is outside the ephemeral range."""
    free = choose_port()
    assert choose_port(preferred=free) == free
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTakenError):
            require_free(port)
        assert FIRST_PORT <= choose_port(preferred=port) <= LAST_PORT


def test_process_is_not_alive_when_its_id_was_given_to_another() -> None:
    """An id with another start time is somebody else."""
    assert not ServerProcess(os.getpid(), started_at=1.0).alive


def test_start_error_quotes_the_end_of_the_log(tmp_path: Path) -> None:
    """The message has the last lines, or says that there are none."""
    log = tmp_path / "server.log"
    assert "empty" in str(StartError("failed", log=log))
    log.write_text("\n".join(map(str, range(100))))

    assert read_tail(log, lines=2) == "98\n99"
    assert str(StartError("failed", log=log)).endswith("98\n99")


@pytest.mark.parametrize(
    ("brokers", "expected"), [(1, True), (0, False), (None, False)], ids=["one", "none yet", "not Kafka"]
)
def test_has_brokers_reads_the_answer_when_something_listens(brokers: int | None, expected: bool) -> None:
    """Only an answer that counts a live broker is good enough."""
    answer = b"HTTP" if brokers is None else struct.pack(">iii", 8, 1, brokers)

    def serve(listener: socket.socket) -> None:
        connection, _address = listener.accept()
        with connection:
            connection.recv(1024)
            connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        assert has_brokers("127.0.0.1", listener.getsockname()[1]) is expected
        server.join()


def test_has_brokers_is_false_when_nothing_listens() -> None:
    """A closed port is no broker."""
    assert not has_brokers("127.0.0.1", choose_port())


@pytest.mark.parametrize(
    ("value", "expected"),
    [("plain", "plain"), ("a\\b", "a\\\\b"), ("é", "\\u00e9"), ("𝄞", "\\ud834\\udd1e")],
)
def test_escape_property_writes_ascii(value: str, expected: str) -> None:
    """Java reads back what was meant, also beyond Latin-1 and the basic plane."""
    assert escape_property(value) == expected


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql+psycopg://user:secret@host/db", "postgresql+psycopg://user:***@host/db"),
        ("postgresql+psycopg://user@host:5432/db", "postgresql+psycopg://user@host:5432/db"),
        ("one:9092,two:9092", "one:9092,two:9092"),
    ],
)
def test_without_password_hides_the_password_only(address: str, shown: str) -> None:
    """What is printed has no secret and is otherwise true."""
    assert without_password(address) == shown


def test_cache_folder_follows_the_environment() -> None:
    """XDG_CACHE_HOME wins over HOME."""
    assert cache_folder({"HOME": "/home/a"}) == Path("/home/a/.cache/narrows")
    assert cache_folder({"HOME": "/home/a", "XDG_CACHE_HOME": "/b"}) == Path("/b/narrows")


def test_make_reachable_opens_passage_but_no_listing(tmp_path: Path) -> None:
    """Folders above a path get the search bit for others and nothing else."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)

    make_reachable(closed / "data")

    assert closed.stat().st_mode & 0o777 == 0o701
