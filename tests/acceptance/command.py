"""The real ``narrows`` command in a process of its own, with nothing of this process's environment but the path."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_EXECUTABLE = Path(sys.executable).with_name("narrows")


@dataclass(frozen=True, slots=True)
class Ended:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as JSON, which must be all of it."""
        return json.loads(self.out, parse_constant=_no_constant)


def _no_constant(name: str) -> Any:
    raise AssertionError(f"{name} is not JSON")


def narrows(*words: str | int, cwd: Path, timeout_s: float = 120, **environ: str) -> Ended:
    """Run a command and wait for its end.

    Args:
        words: Words after ``narrows``.
        cwd: Folder to run in.
        timeout_s: Longest wait.
        environ: Variables, besides the path and one thread: these tests share their cores.
    """
    clean = {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in os.environ}
    done = subprocess.run(
        [str(_EXECUTABLE), *map(str, words)],
        cwd=cwd,
        env=clean | {"OMP_NUM_THREADS": "1", "LANG": "C.UTF-8"} | environ,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def succeeded(*words: str | int, cwd: Path, **environ: str) -> Ended:
    """Run a command that must end with 0."""
    ended = narrows(*words, cwd=cwd, **environ)
    assert ended.code == 0, ended.err
    return ended


def on_terminal(*words: str, cwd: Path, columns: int) -> str:
    """What a command shows on a terminal of that width."""
    main, side = pty.openpty()
    environ = {"COLUMNS": str(columns), "LINES": "50", "PATH": os.environ["PATH"]}
    subprocess.run([str(_EXECUTABLE), *words], cwd=cwd, env=environ, stdout=side, timeout=60, check=True)
    os.close(side)
    shown = b""
    with contextlib.suppress(OSError):  # how Linux tells the end of a terminal
        while piece := os.read(main, 65_536):
            shown += piece
    os.close(main)
    return shown.decode().replace("\r\n", "\n")
