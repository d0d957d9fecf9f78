"""``narrows dead-letters``: records that could not be scored, kept whole, and how to replay them."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monitor.cli.context import JsonOption, LimitOption, StreamFilter, StreamOption, load, narrow, opened_store
from monitor.cli.output import Column, ago, emit_json, jsonable, print_fields, print_table, say, timestamp
from monitor.errors import UsageError
from monitor.printable import printable_bytes

if TYPE_CHECKING:
    from monitor.store.rows import DeadLetterRow

app = typer.Typer(
    help="List and replay records that could not be scored.\n\nExample: narrows dead-letters list",
    no_args_is_help=True,
    rich_markup_mode=None,
)
ReasonFilter = Annotated[
    str | None, typer.Option("--reason", metavar="WORD", help='Only this reason, such as "invalid-json".')
]

_COLUMNS = (
    Column("id", right=True),
    Column("since"),
    Column("record"),
    Column("reason"),
    Column("detail", flexible=True),
    Column("redriven"),
)


@app.command("list")
def list_dead_letters(
    ctx: typer.Context,
    stream: StreamFilter = None,
    reason: ReasonFilter = None,
    limit: LimitOption = 20,
    as_json: JsonOption = False,
) -> None:
    """List dead letters, newest first, and how many there are of each reason.

    Example: narrows dead-letters list --reason wrong-dimension
    """
    now = datetime.now(UTC)
    with opened_store(load(ctx)) as store:
        rows = store.dead_letters.list(stream, reason=reason, limit=limit)
        counts = store.dead_letters.counts(stream)
    if as_json:
        emit_json([dead_letter_json(row) for row in rows])
        return
    cells = [
        (
            row.id,
            ago(row.created_at, now=now),
            f"{row.topic}/{row.partition}@{row.record_offset}",
            row.reason,
            row.detail,
            ago(row.redriven_at, now=now),
        )
        for row in rows
    ]
    print_table(_COLUMNS, cells, empty="No dead letters. Every record could be scored.")
    if counts:
        say("By reason: " + ", ".join(f"{name} {n:,}" for name, n in counts.items()))


@app.command()
def show(
    ctx: typer.Context,
    dead_letter: Annotated[int, typer.Argument(metavar="ID", help="Id of the dead letter.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Show one dead letter with the start of its payload, control characters escaped.

    Example: narrows dead-letters show 7
    """
    with opened_store(load(ctx)) as store:
        row = store.dead_letters.get(dead_letter)
    if as_json:
        emit_json(dead_letter_json(row))
        return
    print_fields(
        [
            ("dead letter", row.id),
            ("stream", row.stream),
            ("record", f"{row.topic}/{row.partition} offset {row.record_offset}"),
            ("key", None if row.key is None else printable_bytes(row.key)),
            ("record time", timestamp(row.record_time)),
            ("kept", timestamp(row.created_at)),
            ("redriven", timestamp(row.redriven_at)),
            ("reason", row.reason),
            ("detail", row.detail),
            ("size", f"{row.payload_size:,} bytes, {len(row.payload):,} kept"),
            ("payload", printable_bytes(row.payload, limit=1000)),
        ]
    )


@app.command()
def redrive(
    ctx: typer.Context,
    stream: StreamOption = None,
    reason: ReasonFilter = None,
    ids: Annotated[list[int] | None, typer.Option("--id", metavar="ID", help="Only this one; may be repeated.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Most dead letters taken.")] = 10_000,
    everything: Annotated[bool, typer.Option("--all", help="All that wait.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Score dead letters again, after the schema or the producer was mended. Results and mark are one transaction.

    Example: narrows dead-letters redrive --reason wrong-dimension
    """
    if not (reason or ids or everything):
        raise UsageError("Say which: --reason WORD, --id ID, or --all.")
    settings = load(ctx)
    chosen = narrow(settings, stream)
    # By name, because scoring imports what listing does without.
    module = import_module("monitor.redrive")
    result = module.redrive(settings, chosen, reason=reason, ids=ids, limit=limit)
    if as_json:
        emit_json(result)
        return
    invalid = ", ".join(f"{word} {n:,}" for word, n in result.still_invalid.items()) or "none"
    typer.echo(f"{result.redriven:,} scored, {result.anomalies:,} of them flagged. Still invalid: {invalid}.")
    if result.cut:
        say(f"{result.cut:,} cannot be replayed: their payload was cut (dead_letters.max_payload_bytes).")


def dead_letter_json(row: DeadLetterRow) -> dict[str, Any]:
    """A dead letter by its column names; bytes as text, with what is not UTF-8 escaped."""
    shown: dict[str, Any] = jsonable(row)
    return shown
