"""The demo's deployment: a folder with a config, and the real commands run in it as a user would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

from monitor.errors import NarrowsError

_CONFIG = """\
# Written by the demo; it stays, so that you can go on with it.
[store]
url = "sqlite:///narrows.db"
[registry]
uri = "registry"
[kafka]
bootstrap_servers = ["{bootstrap_servers}"]
[[streams]]
name = "digits"
topic = "{topic}"
[streams.schema]
id = "id"
event_time = "ts"
label = "label"
features = "pixels"
dimension = 64
"""


class DemoFailed(NarrowsError):  # noqa: N818 - a state that is named
    """The demo did not come to its end."""


class Deployment:
    """A config file and the command run with it.

    Args:
        folder: Where everything lies.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "narrows.toml"
        self.database = folder / "narrows.db"
        self.log = folder / "worker.log"

    def configure(self, *, bootstrap_servers: str, topic: str) -> None:
        """Write the config file."""
        self.config.write_text(_CONFIG.format(bootstrap_servers=bootstrap_servers, topic=topic), encoding="utf-8")

    def run(self, *arguments: str) -> Any:
        """Run a command that prints JSON; its progress shows on our stderr.

        Raises:
            DemoFailed: It did; it has said why.
        """
        done = subprocess.run(  # noqa: S603 - our own command
            self._command(*arguments, "--json"), check=False, stdout=subprocess.PIPE, env=self._environment()
        )
        if done.returncode:
            raise DemoFailed(f"'narrows {arguments[0]}' ended with status {done.returncode}; what it said is above.")
        return json.loads(done.stdout)

    def start_worker(self) -> subprocess.Popen[bytes]:
        """Start ``narrows run``; its log goes to a file."""
        log: IO[bytes]
        with self.log.open("wb") as log:
            return subprocess.Popen(  # noqa: S603 - our own command
                self._command("run"), stdout=log, stderr=log, env=self._environment()
            )

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "monitor.cli", "--config", str(self.config), *arguments]

    def _environment(self) -> dict[str, str]:
        """Ours, without what would win over the demo's own store."""
        return {name: value for name, value in os.environ.items() if not name.startswith("NARROWS_")}
