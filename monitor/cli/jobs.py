"""``narrows jobs``: what the scheduler did and will do, and one job now.

``jobs run`` ends with status 0 only when the job succeeded. A rejected candidate and a skipped run are
no faults of the program, but what was asked for did not happen, and a script that goes on as if it had would be
wrong. Which of them it was stands in the message and in ``--json``.
"""

from __future__ import annotations

import sys
import threading
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monitor.cli.context import JsonOption, LimitOption, StreamFilter, StreamOption, load, narrow, opened_store
from monitor.cli.output import Column, ago, emit_json, print_table, progress_bar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from monitor.jobs.base import JobOutcome
    from monitor.settings import Settings
    from monitor.settings_streams import StreamSettings
    from monitor.store import Store
    from monitor.store.rows import JobRun

app = typer.Typer(
    help="List scheduled jobs and run one now.\n\nExample: narrows jobs list",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_JOBS = (Column("job"), Column("stream", flexible=True), Column("schedule"), Column("last run"), Column("next"))
_RUNS = (
    Column("run", right=True), Column("job"), Column("stream", flexible=True), Column("started"), Column("status"),
    Column("what happened", flexible=True),
)  # fmt: skip


@app.command("list")
def list_jobs(
    ctx: typer.Context, stream: StreamFilter = None, limit: LimitOption = 10, as_json: JsonOption = False
) -> None:
    """List the configured jobs with their next time, and the newest runs.

    Example: narrows jobs list --json
    """
    settings = load(ctx)
    chosen = settings.streams if stream is None else (settings.stream(stream),)
    now = datetime.now(UTC)
    with opened_store(settings) as store:
        jobs = [job for each in chosen for job in _configured(store, each, now=now)]
        runs = store.jobs.runs(stream=stream, limit=limit)
    if as_json:
        emit_json({"jobs": jobs, "runs": runs})
        return
    print_table(_JOBS, [_job_row(job, now=now) for job in jobs], empty="No job is scheduled.")
    typer.echo()
    print_table(_RUNS, [_run_row(run, now=now) for run in runs], empty="Nothing has run yet.")


@app.command("run")
def run_one(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="recalibrate, retrain or prune.", show_default=False)],
    stream: StreamOption = None,
    include_manual: Annotated[
        bool, typer.Option("--include-manual", help="Recalibrate also thresholds that were set by hand.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a job now, here, and wait for it; exit 0 only when it succeeded.

    A retrained version becomes champion if it passes the gate; otherwise it is kept as rejected, with the reasons.

    Example: narrows jobs run retrain --stream gas --json
    """
    settings = load(ctx)
    chosen = narrow(settings, stream)
    with opened_store(settings) as store:
        outcome = _run(settings, chosen, store, name=name, force=include_manual)
    if as_json:
        emit_json({"job": name, "stream": chosen.name, "status": outcome.status, "message": outcome.message,
                   "detail": outcome.detail})  # fmt: skip
    else:
        typer.echo(f"{name} of {chosen.name} {outcome.status}: {outcome.message}")
    if outcome.status != "succeeded":
        raise typer.Exit(1)


def _run(settings: Settings, stream: StreamSettings, store: Store, *, name: str, force: bool) -> JobOutcome:
    from monitor.clock import SystemClock  # noqa: PLC0415 - help must not wait for numpy
    from monitor.errors import UsageError  # noqa: PLC0415
    from monitor.jobs.base import JobPorts  # noqa: PLC0415
    from monitor.jobs.catalogue import JOBS  # noqa: PLC0415
    from monitor.jobs.runner import run_job  # noqa: PLC0415
    from monitor.metrics import NoMetrics  # noqa: PLC0415
    from monitor.registry import Registry  # noqa: PLC0415
    from monitor.runner import stopping_on_signals  # noqa: PLC0415

    if name not in JOBS:
        raise UsageError(f"No job {name!r}. There is: {', '.join(JOBS)}.")
    stop = threading.Event()
    ports = JobPorts(store, Registry(settings.registry.uri), SystemClock(stop), NoMetrics())
    bar = progress_bar() if sys.stderr.isatty() else nullcontext(None)
    with stopping_on_signals(stop, timeout_s=settings.worker.shutdown_timeout.total_seconds()), bar as progress:
        return run_job(name, stream=stream, ports=ports, stop=stop, progress=progress, force=force)


def _configured(store: Store, stream: StreamSettings, *, now: datetime) -> list[dict[str, Any]]:
    from monitor.jobs.catalogue import JOBS  # noqa: PLC0415 - help must not wait for numpy
    from monitor.jobs.due import RUNS_NEEDED, next_due  # noqa: PLC0415
    from monitor.scheduler import next_fire  # noqa: PLC0415

    found = []
    for name in JOBS:
        schedule = getattr(stream.schedule, name)
        runs = store.jobs.runs(stream=stream.name, job=name, limit=RUNS_NEEDED)
        due = next_due(schedule, runs, now=now, next_fire=next_fire)
        last = runs[0] if runs else None
        found.append({"job": name, "stream": stream.name, "schedule": str(schedule), "next_due": due, "last_run": last})
    return found


def _job_row(job: dict[str, Any], *, now: datetime) -> Sequence[object]:
    last: JobRun | None = job["last_run"]
    shown = None if last is None else f"{last.status}, {ago(last.started_at, now=now)}"
    return [job["job"], job["stream"], job["schedule"], shown, ago(job["next_due"], now=now) or "never"]


def _run_row(run: JobRun, *, now: datetime) -> Sequence[object]:
    said = run.detail.get("message") or run.detail.get("error")
    return [run.id, run.job, run.stream, ago(run.started_at, now=now), run.status, said]
