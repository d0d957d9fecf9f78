"""The border to the service: light to import, its errors complete, its science free of the service."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import models
from models import errors


def test_api_thresholds_and_gate_import_no_torch() -> None:
    """A worker's command line answers at once; torch comes when it is needed."""
    code = "import sys, models.api, models.thresholds, models.errors, models.gate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_models_import_neither_the_service_nor_sockets_nor_pickle() -> None:
    """The science is arrays in, arrays out."""
    forbidden = {"monitor", "socket", "pickle", "kafka", "sqlalchemy", "requests", "urllib"}
    for path in Path(models.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & forbidden, path.name


@pytest.mark.parametrize(
    "error", [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, Exception)]
)
def test_every_error_has_a_message_of_its_own_and_is_in_the_tree(error: type[errors.ModelError]) -> None:
    """The docstring's first line is the default message; the tree at the top names the class."""
    assert str(error())
    assert error("x", n=1).details == {"n": 1}
    assert error.__name__ in (errors.__doc__ or "")
