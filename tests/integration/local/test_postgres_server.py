"""The local database: starts, keeps its data through kills, gives each test a database of its own."""

import socket
from pathlib import Path

import psutil
import psycopg
import pytest

from monitor.local import PortTakenError, PostgresServer, StartError

pytestmark = pytest.mark.postgres


def run_sql(url: str, *statements: str) -> list[tuple[object, ...]]:
    """Run statements in one transaction; the rows of the last one, if it has any."""
    plain = url.replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(plain) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def test_postgres_url_is_an_empty_database_when_a_test_asks(postgres_url: str) -> None:
    """A fresh database has no table of ours."""
    assert run_sql(postgres_url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]


def test_postgres_server_keeps_rows_when_killed(private_postgres_server: PostgresServer) -> None:
    """SIGKILL and a restart lose no committed row, and the URL stays."""
    server = private_postgres_server
    url = server.create_database("kept")
    run_sql(url, "CREATE TABLE t (x int)", "INSERT INTO t VALUES (1)")

    server.kill()
    assert not server.running
    server.restart()

    assert url == server.url_of("kept")
    assert run_sql(url, "SELECT x FROM t") == [(1,)]


def test_postgres_server_is_found_when_started_twice(private_postgres_server: PostgresServer) -> None:
    """A second start in the folder of a running server hands out that server."""
    second = PostgresServer.start(private_postgres_server.folder)

    assert (second.pid, second.url) == (private_postgres_server.pid, private_postgres_server.url)


def test_postgres_server_starts_when_a_dead_pid_file_is_left(tmp_path: Path) -> None:
    """A pid file that names another living program does not keep the server down."""
    with PostgresServer.start(tmp_path / "postgres") as server:
        server.kill()
        pid_file = server.folder / "data" / "postmaster.pid"
        _dead, *rest = pid_file.read_text().splitlines()
        pid_file.write_text("\n".join(["1", *rest]) + "\n")

        server.restart()

        assert server.answers


def test_postgres_server_starts_when_the_folder_is_half_finished(tmp_path: Path) -> None:
    """An initdb that was cut short is begun again."""
    folder = tmp_path / "dáta dir"
    (folder / "data.partial" / "base").mkdir(parents=True)

    with PostgresServer.start(folder) as server:
        assert server.answers


def test_postgres_server_refuses_when_the_port_is_taken(tmp_path: Path) -> None:
    """A port asked for by name and taken is an error that names it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTakenError, match=str(port)):
            PostgresServer.start(tmp_path / "postgres", port=port)


def test_postgres_server_quotes_its_log_when_it_cannot_start(tmp_path: Path) -> None:
    """A server that ends early takes its reason into the error."""
    with pytest.raises(StartError, match="no_such_setting"):
        PostgresServer.start(tmp_path / "postgres", settings={"no_such_setting": "1"})


def test_postgres_server_listens_on_loopback_only(private_postgres_server: PostgresServer) -> None:
    """No port is open to other machines."""
    assert private_postgres_server.pid is not None
    connections = psutil.Process(private_postgres_server.pid).net_connections(kind="inet")

    assert {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
