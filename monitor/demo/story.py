"""The demo from start to end: what happens, in order. Drawing is ``gallery.py``, counting ``scoreboard.py``."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from monitor.demo.deployment import DemoFailed, Deployment
from monitor.demo.digits import digit_stream
from monitor.demo.gallery import Gallery, index_of
from monitor.demo.scoreboard import Scoreboard, score
from monitor.records import TopicPartition

if TYPE_CHECKING:
    from monitor.store import Store
    from monitor.store.rows import AnomalyRow

STREAM = "digits"
#: Longest wait for the worker to come up or to catch up; a loaded machine takes a few seconds.
_PATIENCE_S = 60.0
_QUERY = "SELECT nearest_class, count(*) FROM anomalies GROUP BY 1 ORDER BY 2 DESC"


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What a person may choose.

    Attributes:
        folder: Where the demo's files go; what an earlier demo left there is replaced.
        unseen: Digit that the detector never sees in training.
        rate: Records a second.
        seed: Seed of splits and training.
    """

    folder: Path
    unseen: int
    rate: float
    seed: int


class Demo:
    """Tells and does.

    Args:
        options: What was chosen.
        bootstrap_servers: Broker that runs already.
        console: Where the story goes.
    """

    def __init__(self, options: DemoOptions, *, bootstrap_servers: str, console: Console) -> None:
        self._options = options
        self._servers = bootstrap_servers
        self._console = console
        self._topic = f"narrows-demo-{uuid.uuid4().hex[:8]}"
        self._deployment = Deployment(options.folder)
        self._stream = digit_stream(unseen=options.unseen, seed=options.seed)
        self._gallery = Gallery(console, self._stream, unseen=options.unseen)

    def run(self) -> Scoreboard:
        """Train, stream, watch, sum up.

        Raises:
            DemoFailed: The worker ended or did not catch up; the message says where its log is.
        """
        self._train()
        with self._worker() as worker, self._store() as store:
            started = time.monotonic()
            self._play(store, worker)
            self._catch_up(store, worker)
            seconds = time.monotonic() - started
            self._gallery.show(_alerts(store), force=True)
            board = score([index_of(row) for row in _alerts(store)], truth=self._stream.y, unseen=self._options.unseen)
            lag = len(self._stream.y) - self._done(store)
        self._sum_up(board, lag=lag, seconds=seconds)
        return board

    def _train(self) -> None:
        import numpy as np  # noqa: PLC0415 - the help of the command does without

        from monitor.local.topics import create_topic  # noqa: PLC0415

        options, deployment = self._options, self._deployment
        create_topic(self._servers, name=self._topic)
        deployment.configure(bootstrap_servers=self._servers, topic=self._topic)
        history = options.folder / "history.npz"
        np.savez_compressed(history, X=self._stream.history_x, y=self._stream.history_y)
        known = ", ".join(str(digit) for digit in range(10) if digit != options.unseen)
        self._say(
            f"Training on {len(self._stream.history_y)} handwritten digits: {known}. It never sees a {options.unseen}."
        )
        self._command("train", str(history))
        result = deployment.run("train", str(history), "--seed", str(options.seed))
        accuracy = result["metrics"]["accuracy"]
        self._console.print(
            f"  version {result['model_version']} is the champion after {result['seconds']:.0f} s; "
            f"accuracy on digits held out: [bold]{accuracy:.1%}[/bold]"
        )

    def _play(self, store: Store, worker: subprocess.Popen[bytes]) -> None:
        """Produce at the chosen rate, and show alerts as they come."""
        from monitor.local.producer import producing  # noqa: PLC0415 - brings the Kafka client along

        stream, unseen = self._stream, self._options.unseen
        self._say(
            f"Streaming {len(stream.y)} digits through Kafka, {self._options.rate:.0f} a second. All known so far."
        )
        start = time.monotonic()
        with producing(self._servers, topic=self._topic) as send:
            for index in range(len(stream.y)):
                if index == stream.turn:
                    self._console.rule(f"[bold yellow]now a digit it has never seen starts to arrive: {unseen}")
                send(stream.payload(index, unseen=unseen, time_s=time.time()))
                wait = start + (index + 1) / self._options.rate - time.monotonic()
                if wait > 0:
                    time.sleep(wait)
                if index % 10 == 0:
                    self._check_alive(worker)
                    self._gallery.show(_alerts(store))

    def _catch_up(self, store: Store, worker: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while self._done(store) < len(self._stream.y):
            self._check_alive(worker)
            if time.monotonic() > deadline:
                raise DemoFailed(f"The worker did not catch up in {_PATIENCE_S:.0f} s; its log: {self._deployment.log}")
            time.sleep(0.1)

    def _done(self, store: Store) -> int:
        return store.pipeline.next_offsets(STREAM).get(TopicPartition(self._topic, 0), 0)

    def _check_alive(self, worker: subprocess.Popen[bytes]) -> None:
        if worker.poll() is not None:
            raise DemoFailed(f"The worker ended with status {worker.returncode}; its log: {self._deployment.log}")

    @contextmanager
    def _worker(self) -> Iterator[subprocess.Popen[bytes]]:
        """The worker in a process of its own, ended by SIGTERM as a supervisor would."""
        self._command("run")
        worker = self._deployment.start_worker()
        try:
            yield worker
        finally:
            worker.send_signal(signal.SIGTERM)
            try:
                worker.wait(timeout=20)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()

    @contextmanager
    def _store(self) -> Iterator[Store]:
        from monitor.store import open_store  # noqa: PLC0415 - brings SQLAlchemy along

        store = open_store(f"sqlite:///{self._deployment.database}")
        try:
            yield store
        finally:
            store.close()

    def _sum_up(self, board: Scoreboard, *, lag: int, seconds: float) -> None:
        unseen, console, known = self._options.unseen, self._console, board.n_records - board.n_unseen
        table = Table(title="What happened", title_justify="left", show_header=False, box=None, padding=(0, 3, 0, 1))
        for name, value in (
            ("records", f"{board.n_records}, {board.n_records / seconds:.0f} a second; lag at the end {lag}"),
            (f"never-seen {unseen}s", f"{board.caught} of {board.n_unseen} flagged: recall {board.recall:.0%}"),
            ("of all alerts", f"precision {board.precision:.0%}"),
            ("false alarms", f"{board.false_alarms} of {known} known digits: {board.false_alarm_rate:.1%} (aim: 1 %)"),
        ):  # fmt: skip
            table.add_row(name, value)
        console.print()
        console.print(table)
        console.print("\nTry next:", style="bold")
        for line in (
            f"{_program()} --config {self._deployment.config} alerts list",
            f"{_program()} --config {self._deployment.config} alerts show 1",
            f"sqlite3 {self._deployment.database} '{_QUERY}'",
        ):
            console.print(f"  {line}", highlight=False, soft_wrap=True)

    def _command(self, *arguments: str) -> None:
        line = f"  $ {_program()} --config {self._deployment.config} {' '.join(arguments)}"
        self._console.print(Text(line, style="dim"), soft_wrap=True)

    def _say(self, line: str) -> None:
        self._console.print(f"[bold cyan]>[/bold cyan] {line}", highlight=False)


def prepare(folder: Path) -> None:
    """An empty folder, in place of what an earlier demo left there.

    Raises:
        DemoFailed: The folder holds something that is not a demo's.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / "narrows.toml").exists():
        raise DemoFailed(f"{folder} is not empty and not a demo's folder; name another one with --folder.")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _alerts(store: Store) -> list[AnomalyRow]:
    return sorted(store.alerts.anomalies(stream=STREAM, limit=10_000), key=lambda row: row.id)


def _program() -> str:
    """The command as it was called, so that what is printed can be typed."""
    called = sys.argv[0]
    return called if Path(called).name == "narrows" else "narrows"
