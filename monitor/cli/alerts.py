"""``narrows alerts``: what was flagged, and why. The same rows that analysts query in SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monitor.cli.context import JsonOption, LimitOption, StreamFilter, load, opened_store
from monitor.cli.output import Column, ago, bar, emit_json, number, print_fields, print_table, say, timestamp
from monitor.errors import UsageError
from monitor.printable import printable
from monitor.settings_types import parse_duration

if TYPE_CHECKING:
    from monitor.store.rows import AnomalyRow, IncidentRow

app = typer.Typer(
    help="List anomalies and incidents, and see why a record was flagged.\n\nExample: narrows alerts list --since 1h",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_ANOMALIES = (
    Column("id", right=True),
    Column("event time"),
    Column("severity"),
    Column("ratio", right=True),
    Column("nearest class", flexible=True),
    Column("record", flexible=True),
    Column("incident", right=True),
    Column("verdict"),
)
_INCIDENTS = (
    Column("id", right=True),
    Column("status"),
    Column("severity"),
    Column("anomalies", right=True),
    Column("like", flexible=True),
    Column("first"),
    Column("last"),
    Column("assignee", flexible=True),
)
_OPEN = ("open", "acknowledged", "snoozed")


def _since(text: str | None) -> timedelta | None:
    try:
        return None if text is None else parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--since: {error}.") from error


@app.command("list")
def list_alerts(  # noqa: PLR0917 - Typer's way of declaring options
    ctx: typer.Context,
    stream: StreamFilter = None,
    incidents: Annotated[bool, typer.Option("--incidents", help="Groups of like anomalies, not single ones.")] = False,
    incident: Annotated[
        int | None, typer.Option("--incident", metavar="ID", help="Only anomalies of this one.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="DURATION", help='Only the last "1h", "7d" ...')
    ] = None,
    min_ratio: Annotated[
        float | None, typer.Option("--min-ratio", help="Only scores of at least this multiple of the threshold.")
    ] = None,
    closed: Annotated[bool, typer.Option("--closed", help="With --incidents: resolved ones too.")] = False,
    limit: LimitOption = 20,
    as_json: JsonOption = False,
) -> None:
    """List flagged records, newest first, or with --incidents the groups that need a look.

    Example: narrows alerts list --since 1h --min-ratio 1.5
    """
    now, span = datetime.now(UTC), _since(since)
    with opened_store(load(ctx)) as store:
        if incidents:
            status = (*_OPEN, "resolved") if closed else _OPEN
            groups = store.alerts.incidents(stream, status=status, limit=limit)
            _show_incidents(groups, now=now, as_json=as_json)
            return
        rows = store.alerts.anomalies(
            stream, incident=incident, since=None if span is None else now - span, min_ratio=min_ratio, limit=limit
        )
    if as_json:
        emit_json(rows)
        return
    print_table(_ANOMALIES, [_anomaly_cells(row) for row in rows], empty="No anomalies. That is good news.")
    if len(rows) == limit:
        say(f"The newest {limit}; more with --limit.")


def _anomaly_cells(row: AnomalyRow) -> Sequence[object]:
    return (
        row.id,
        timestamp(row.event_time),
        row.severity,
        f"{row.score_ratio:.2f}",
        row.nearest_class,
        row.sample_id or row.record_key or f"{row.topic}/{row.partition}@{row.record_offset}",
        row.incident_id,
        row.verdict,
    )


def _show_incidents(groups: Sequence[IncidentRow], *, now: datetime, as_json: bool) -> None:
    if as_json:
        emit_json(groups)
        return
    cells = [
        (
            group.id,
            group.status,
            group.severity,
            group.anomaly_count,
            group.fingerprint,
            ago(group.first_seen, now=now),
            ago(group.last_seen, now=now),
            group.assignee,
        )
        for group in groups
    ]
    print_table(_INCIDENTS, cells, empty="No incidents. That is good news.")


@app.command()
def show(
    ctx: typer.Context,
    anomaly: Annotated[int, typer.Argument(metavar="ID", help="Id of the anomaly.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Show one anomaly and why it was flagged.

    Example: narrows alerts show 42
    """
    with opened_store(load(ctx)) as store:
        row = store.alerts.anomaly(anomaly)
    if as_json:
        emit_json(row)
        return
    _print_anomaly(row)
    _print_explanation(row)


def _print_anomaly(row: AnomalyRow) -> None:
    now = datetime.now(UTC)
    print_fields(
        [
            ("anomaly", row.id),
            ("stream", row.stream),
            ("record", f"{row.topic}/{row.partition} offset {row.record_offset}"),
            ("key", row.record_key),
            ("sample", row.sample_id),
            ("event time", f"{timestamp(row.event_time)} ({ago(row.event_time, now=now)})"),
            ("detected", timestamp(row.detected_at)),
            ("severity", row.severity),
            ("incident", row.incident_id),
            ("label", row.label),
            ("verdict", row.verdict),
            ("judged by", f"version {row.model_version}, threshold {row.threshold_id}"),
        ]
    )


def _print_explanation(row: AnomalyRow) -> None:
    largest = max(row.score, row.threshold)
    typer.echo(f"\nNearest class: {printable(row.nearest_class)}, at {row.score_ratio:.2f} times its threshold")
    typer.echo(f"  distance   {number(row.score):>9}  {bar(row.score, largest=largest)}")
    typer.echo(f"  threshold  {number(row.threshold):>9}  {bar(row.threshold, largest=largest)}")
    typer.echo(f"  p-value    {number(row.p_value):>9}  share of normal records this far out")
    features = [part for part in row.explanation.get("features", ()) if isinstance(part, Mapping)]
    if features:
        typer.echo("\nWhat carries the distance")
        _print_features(features, other=row.explanation.get("other_features"))


def _print_features(features: Sequence[Mapping[str, Any]], *, other: float | None) -> None:
    parts = [(f"feature {part['feature']} = {number(part['value'])}", float(part["contribution"])) for part in features]
    if other is not None:
        parts.append(("all others", float(other)))
    width = max(len(name) for name, _ in parts)
    largest = max(contribution for _, contribution in parts)
    for name, contribution in parts:
        typer.echo(
            f"  {printable(name):<{width}}  {number(contribution):>9}  {bar(contribution, largest=largest)}".rstrip()
        )
