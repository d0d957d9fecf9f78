"""What can be checked of the deployment files on any machine; the rest needs an engine or systemd."""

import configparser
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitor.cli.lazy import COMMANDS
from monitor.settings import load_settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}


def directives(unit: Path) -> dict[str, list[str]]:
    """Directives of a unit file, whatever the section; each may be given several times."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", unit.read_text(encoding="utf-8"), flags=re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def test_compose_publishes_on_loopback_only_when_it_publishes() -> None:
    """Neither the broker nor the database is reachable from another machine."""
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]

    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("name", OURS)
def test_compose_calls_commands_that_exist(name: str) -> None:
    """The first word of each command is one of narrows' own."""
    assert OURS[name]["command"][0] in COMMANDS


@pytest.mark.parametrize("name", SERVICES)
def test_compose_says_what_happens_when_a_service_ends(name: str) -> None:
    """Services come back, the schema upgrade runs once."""
    assert SERVICES[name]["restart"] == ("no" if name == "migrate" else "unless-stopped")


def test_compose_waits_for_the_schema_when_it_starts_ours() -> None:
    """Worker and scheduler start after the upgrade, the worker also after the broker answers."""
    done = {"condition": "service_completed_successfully"}

    assert OURS["worker"]["depends_on"] == {"kafka": {"condition": "service_healthy"}, "migrate": done}
    assert OURS["scheduler"]["depends_on"] == {"migrate": done}
    assert all("healthcheck" in SERVICES[name] for name in ("kafka", "postgres", "worker"))


def test_compose_names_only_what_exists() -> None:
    """Every mounted file, build file and named volume is there."""
    volumes = [volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])]
    files = [DEPLOY / volume for volume in volumes if volume.startswith(".")]
    named = {volume for volume in volumes if not volume.startswith(".")}
    builds = [service["build"] for service in OURS.values()]

    assert named == set(COMPOSE["volumes"])
    assert all(file.is_file() for file in files)
    assert all((DEPLOY / build["context"] / build["dockerfile"]).is_file() for build in builds)


def test_compose_holds_no_password() -> None:
    """The password is asked of the environment, with a word on where to set it; the example leaves it empty."""
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")

    assert set(re.findall(r"PASSWORD[^\n}]*", text)) == {
        "PASSWORD: ${POSTGRES_PASSWORD:?set it in deploy/.env",
        "PASSWORD:?set it in deploy/.env",
    }
    assert re.search(r"^POSTGRES_PASSWORD=$", (DEPLOY / "example.env").read_text(encoding="utf-8"), re.MULTILINE)


def test_dockerfile_copies_only_what_exists_and_is_not_root() -> None:
    """The allow list names real paths, and the last stage ends as an unprivileged user."""
    allowed = re.findall(r"^!(.+)$", (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    last_stage = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").rpartition("\nFROM ")[2]

    assert {"pyproject.toml", "monitor", "models"} <= set(allowed)
    assert "\nUSER narrows\n" in last_stage
    assert 'ENTRYPOINT ["narrows"]' in last_stage


def test_configuration_is_usable_when_the_containers_read_it() -> None:
    """The mounted file loads, with the database from the environment as in the Compose file."""
    url = OURS["worker"]["environment"]["NARROWS_STORE__URL"].replace(":?set it in deploy/.env", "")
    settings = load_settings(
        DEPLOY / "narrows.toml",
        environ={"NARROWS_STORE__URL": url.replace("${POSTGRES_PASSWORD}", "secret"), "PATH": os.defpath},
    )

    assert settings.store.url == "postgresql+psycopg://narrows:secret@postgres/narrows"
    assert settings.kafka.bootstrap_servers == ["kafka:19092"]
    assert [stream.topic for stream in settings.streams] == ["sensors"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_unit_restarts_when_it_failed_but_not_when_misconfigured(unit: Path) -> None:
    """A crash is mended by a restart, exit status 2 only by a person; SIGTERM has time to finish a batch."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(unit, encoding="utf-8")
    service = parser["Service"]

    assert service["Restart"] == "on-failure"
    assert service["RestartPreventExitStatus"] == "2"
    assert service["TimeoutStopSec"] == "30"
    assert service["KillSignal"] == "SIGTERM"
    assert service["ExecStart"].split()[1] in COMMANDS


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_unit_is_confined(unit: Path) -> None:
    """An unprivileged user that can write to its own folder only."""
    found = directives(unit)

    assert found["User"] == ["narrows"]
    assert found["ProtectSystem"] == ["strict"]
    assert found["NoNewPrivileges"] == ["yes"]
    assert found["CapabilityBoundingSet"] == [""]
    assert found["StateDirectory"] == ["narrows"]
