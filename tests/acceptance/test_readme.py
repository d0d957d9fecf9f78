"""README is executed: its commands, its queries, its tables, and every name in it that must exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from monitor import metrics
from monitor.cli.lazy import COMMANDS, load_command
from monitor.settings_reference import reference
from monitor.store import Store, open_store
from monitor.store.tables import verdicts
from monitor.version import __version__
from tests.store_builders import add_model, anomaly, dead_letter, outcome, part

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
#: What stands in README for what differs from machine to machine.
HOME, TOPIC, SERVERS = "/home/me/digits", "scans", "localhost:9092"

#: Columns of each of the ten queries, in order.
COLUMNS = {
    1: "id severity nearest_class anomaly_count max_score_ratio last_seen assignee",
    2: "id detected_at severity score_ratio nearest_class sample_id incident_id verdict",
    3: "id event_time score_ratio p_value nearest_class sample_id explanation",
    4: "nearest_class n worst first",
    5: "hour n_records n_anomalies n_invalid anomaly_rate",
    6: "model_version nearest_class n_judged n_false_alarms false_alarm_rate",
    7: "class_label valid_from previous_value value alpha n_calibration method source cause",
    8: "model_version alias status path n_train trained_to note created_at",
    9: "stream champion_version last_progress_at lag records_last_hour anomaly_rate_last_hour latency_p99_last_hour "
    "unresolved_incidents lost_offsets_last_day",
    10: "reason n redriven last example",
}

pytestmark = pytest.mark.acceptance


def between(start: str, end: str) -> str:
    """Text of README between two markers."""
    _, found, rest = README.partition(start)
    assert found, start
    return rest.partition(end)[0].strip()


def blocks(kind: str) -> list[str]:
    """Code blocks that a comment before them marks: ``run`` is run, ``help`` is held against the help."""
    return re.findall(rf"<!-- {kind} -->\n```(?:bash|console)\n(.*?)```", README, flags=re.DOTALL)


def section(heading: str) -> str:
    """Text under a heading."""
    return between(f"\n## {heading}\n", "\n## ")


def commands(block: str) -> list[list[str]]:
    """Words of each ``narrows`` command of a console block, without comments."""
    lines = [line[2:] for line in block.splitlines() if line.startswith("$ narrows")]
    return [line.partition(" #")[0].split()[1:] for line in lines]


class TestCommands:
    @pytest.mark.kafka
    def test_readme_commands_end_well_and_print_what_it_shows(self, tmp_path: Path, bootstrap_servers: str) -> None:
        """All runnable blocks, in order, in one folder; numbers and rows of tables may differ."""
        from monitor.local.topics import create_topic  # noqa: PLC0415 - only with a broker

        topic = create_topic(bootstrap_servers, name=f"narrows-test-readme-{os.getpid()}", partitions=3)
        environ = {name: os.environ[name] for name in ("HOME", "LD_LIBRARY_PATH") if name in os.environ}
        environ |= {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "LANG": "C.UTF-8",
            "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        }
        for block in blocks("run"):
            for command, shown in _steps(block):
                done = subprocess.run(
                    ["bash", "-euc", command.replace(TOPIC, topic)], cwd=tmp_path, env=environ, timeout=120,
                    capture_output=True, text=True, check=False,
                )  # fmt: skip
                printed = (done.stdout + done.stderr).replace(str(tmp_path), HOME).replace(topic, TOPIC)
                printed = printed.replace(bootstrap_servers, SERVERS)
                assert done.returncode == 0, f"{command}\n{printed}"
                missing = {_shape(line) for line in shown} - {_shape(line) for line in printed.splitlines()}
                assert not missing, f"{command} prints\n{printed}"

    @pytest.mark.parametrize("words", [c for kind in ("run", "help") for b in blocks(kind) for c in commands(b)])
    def test_readme_command_exists_with_its_options(self, words: list[str]) -> None:
        """Verbs, and every long option, by the help of the command."""
        command = _command(words)
        known = {option for parameter in command.params for option in getattr(parameter, "opts", ())}
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known

    def test_readme_names_only_verbs_that_exist(self) -> None:
        """Also in running text."""
        for verb in re.findall(r"narrows ([a-z][a-z-]+)", " ".join(re.findall(r"`([^`\n]+)`", README))):
            assert verb in COMMANDS, verb
            assert find_spec(COMMANDS[verb].module), verb


def _steps(block: str) -> list[tuple[str, list[str]]]:
    """Commands of a block, each with the lines shown after it; a block without prompts is one command."""
    if "$ " not in block[:2]:
        return [(block, [])]
    steps = []
    for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, *shown = step.splitlines()
        steps.append((command, [line for line in shown if line.strip() and not re.match(r"\s*(\d|\.\.\.)", line)]))
    return steps


def _shape(line: str) -> str:
    """A line without its numbers and its widths."""
    return " ".join(re.sub(r"\d[\d.,:]*", "#", line).split())


def _command(words: list[str]) -> Any:
    command = load_command(words[0])
    if hasattr(command, "commands"):
        assert words[1] in command.commands, words
        return command.commands[words[1]]
    return command


class TestQueries:
    @pytest.mark.parametrize("number", COLUMNS)
    def test_readme_query_has_its_columns_and_a_row(self, full_database: sa.Engine, number: int) -> None:
        """As an analyst would type it, on both databases."""
        with full_database.connect() as connection:
            result = connection.execute(sa.text(QUERIES[number].replace(":", r"\:")))
            assert list(result.keys()) == COLUMNS[number].split()
            assert result.all()

    def test_readme_has_ten_queries(self) -> None:
        """No more and no fewer."""
        assert list(QUERIES) == list(COLUMNS) == list(range(1, 11))


def _queries() -> dict[int, str]:
    text = between("```sql\n", "```")
    parts = re.split(r"^-- (\d+)\. .*$", text, flags=re.MULTILINE)[1:]
    return {int(number): query.strip() for number, query in zip(parts[::2], parts[1::2], strict=True)}


QUERIES = _queries()


@pytest.fixture
def full_database(store_url: str) -> Any:
    """A database with a row for every query."""
    with open_store(store_url, create=True) as store:
        _fill(store)
    engine = sa.create_engine(store_url)
    yield engine
    engine.dispose()


def _fill(store: Store) -> None:
    now = datetime.now(UTC)
    add_model(store, stream="gas")
    store.streams.sync("gas", "t", "fingerprint", now=now)
    flagged = [anomaly(offset, detected_at=now, event_time=now) for offset in (1, 2)]
    store.pipeline.claim("gas", {flagged[0].partition: 0})
    minute = now.replace(second=0, microsecond=0)
    written = part(0, 10, anomalies=flagged, dead_letters=[dead_letter(3)])
    store.pipeline.write(outcome(written, stream="gas", window_start=minute))
    judged = {"stream": "gas", "anomaly_id": 1, "verdict": "not_anomaly", "author": "test", "created_at": now}
    with store.database.write() as connection:
        connection.execute(sa.insert(verdicts), judged)


class TestTables:
    def test_readme_settings_are_those_of_the_program(self) -> None:
        """Paste the output of ``python -m monitor.settings_reference`` between the markers."""
        assert between("<!-- settings -->", "<!-- /settings -->") == reference()

    def test_readme_names_every_metric_with_kind_and_labels(self) -> None:
        """No more and no fewer; the meaning is told in its own words."""
        found = [line.split(" | ")[:3] for line in section("Operations").splitlines() if line.startswith("| `narrows_")]
        assert sorted(found) == sorted(_metric_rows())

    def test_readme_argues_every_dependency(self) -> None:
        """Those of the program one by one; those of its extras by name."""
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        rows = "\n".join(line.split(" | ")[0] for line in section("Dependencies").splitlines() if line[:1] == "|")
        assert set(re.findall(r"`([\w-]+)`", rows)) == {_name(each) for each in project["dependencies"]}
        extras = project["optional-dependencies"]
        for extra in (name for name in extras if name != "dev"):
            for package in (extra, *map(_name, extras[extra])):
                assert f"`{package}`" in section("Dependencies"), package


def _metric_rows() -> list[list[str]]:
    kinds = (metrics.Counter, metrics.Gauge, metrics.Histogram)
    found = [value for value in vars(metrics).values() if isinstance(value, kinds)]
    return [
        [f"| `{metric.name}`", type(metric).__name__.lower(), ", ".join(f"`{label}`" for label in metric.labels) or "-"]
        for metric in found
    ]


def _name(requirement: str) -> str:
    return re.split(r"[\[<>=!~; ]", requirement)[0]


class TestNames:
    def test_readme_names_only_files_that_exist(self) -> None:
        """Paths in backticks that begin with a folder of ours."""
        paths = re.findall(r"`((?:monitor|models|tests|deploy)/[\w./-]*)`", README)
        assert len(paths) > 30
        assert [path for path in paths if not (ROOT / path).exists()] == []

    def test_readme_names_only_make_targets_that_exist(self) -> None:
        """As the Makefile has them."""
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert set(re.findall(r"make ([a-z]+)`", README)) <= set(targets)

    def test_readme_numbers_its_decisions_and_code_names_only_those(self) -> None:
        """README is the index."""
        numbers = [int(number) for number in re.findall(r"^\*\*(\d+)\. ", section("Decisions"), flags=re.MULTILINE)]
        assert numbers == list(range(1, len(numbers) + 1))
        for folder in ("monitor", "models"):
            for file in sorted((ROOT / folder).rglob("*.py")):
                named = re.findall(r"[Dd]ecision (\d+) (?:in|of) README", file.read_text(encoding="utf-8"))
                assert set(map(int, named)) <= set(numbers), file

    def test_changelog_has_this_version(self) -> None:
        """Operators look there first."""
        assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
