"""``narrows check``: a dry run of the configuration against the world."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from monitor.checks import check_all
from monitor.cli.context import JsonOption, StreamFilter, load
from monitor.cli.output import emit_json, say
from monitor.printable import printable

if TYPE_CHECKING:
    from monitor.checks import Finding

_COLOURS = {"ok": typer.colors.GREEN, "warn": typer.colors.YELLOW, "fail": typer.colors.RED}


def check(
    ctx: typer.Context,
    stream: StreamFilter = None,
    show_config: Annotated[
        bool, typer.Option("--show-config", help="Print the effective configuration as JSON, secrets masked, and end.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check configuration, broker, topic, records, store, registry and champion, and say what to do.

    Exit status 1 when something fails, 2 when the configuration itself is not usable.

    Example: narrows check --json
    """
    settings = load(ctx)
    if show_config:
        emit_json(settings.masked())
        return
    streams = settings.streams if stream is None else (settings.stream(stream),)
    findings = []
    for finding in check_all(settings, streams):
        findings.append(finding)
        if not as_json:
            _print(finding)
    failed = sum(finding.status == "fail" for finding in findings)
    if as_json:
        emit_json({"ok": not failed, "findings": findings})
    else:
        warned = sum(finding.status == "warn" for finding in findings)
        say(f"{failed} failed, {warned} to look at, {len(findings) - failed - warned} fine.")
    if failed:
        raise typer.Exit(1)


def _print(finding: Finding) -> None:
    status = typer.style(f"{finding.status:<4}", fg=_COLOURS[finding.status]) if sys.stdout.isatty() else finding.status
    subject = finding.check if finding.stream is None else f"{finding.check} {finding.stream}"
    typer.echo(f"{status:<4}  {printable(subject)}: {printable(finding.detail)}")
    if finding.remedy:
        typer.echo(f"      {printable(finding.remedy)}")
