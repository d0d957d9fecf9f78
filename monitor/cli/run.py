"""``narrows run``: the worker."""

from __future__ import annotations

from typing import Annotated

import typer

from monitor.cli.context import StreamFilter, demand_store, load


def run(
    ctx: typer.Context,
    stream: StreamFilter = None,
    until_caught_up: Annotated[
        bool, typer.Option("--until-caught-up", help="End at the end offsets that the topic has now.")
    ] = False,
    with_scheduler: Annotated[
        bool,
        typer.Option("--with-scheduler", help="Also recalibrate, retrain and prune by the clock, in this process."),
    ] = False,
) -> None:
    """Score the stream until told to stop (SIGTERM or Ctrl-C: the batch is finished, nothing is lost).

    Start as many as there are partitions: workers of one stream share them. New champions and thresholds are taken
    over between two batches.

    Example: narrows run --with-scheduler
    """
    settings = load(ctx)
    from monitor.cli.output import progress  # noqa: PLC0415 - after the configuration is known to be good
    from monitor.runner import run as run_streams  # noqa: PLC0415

    demand_store(settings)
    streams = settings.streams if stream is None and settings.streams else (settings.stream(stream),)
    if not until_caught_up:
        run_streams(settings, streams, with_scheduler=with_scheduler)
        return
    with progress("Catching up") as bar:
        run_streams(settings, streams, until_caught_up=True, with_scheduler=with_scheduler, on_progress=bar)
