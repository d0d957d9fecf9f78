"""Who may import what, beyond what ruff's banned imports say: torch stays behind ``models``, pickle nowhere."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import monitor

FOLDER = Path(monitor.__path__[0])
#: Where each of these may be imported; ``monitor/local`` starts servers and is not part of the service.
HOMES = {
    "kafka": {"kafka_io.py", "local"},
    "sqlalchemy": {"store"},
    "alembic": {"store"},
    "apscheduler": {"scheduler.py"},
    "torch": set(),
    "pickle": set(),
}


def imports(path: Path) -> Iterator[str]:
    """Top-level packages that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", HOMES)
def test_package_is_imported_only_in_its_home(package: str) -> None:
    """One place speaks to each library, so one place maps its errors."""
    found = {path.relative_to(FOLDER).parts[0] for path in FOLDER.rglob("*.py") if package in imports(path)}
    assert found <= HOMES[package]
    assert found or not HOMES[package], "a home without a guest: the test looks in the wrong place"
