"""``narrows db``: the schema of the database, and its size."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from monitor.cli.context import JsonOption, StreamFilter, demand_store, load, opened_store
from monitor.cli.output import Column, emit_json, print_fields, print_table, say
from monitor.settings import mask_url
from monitor.store import open_store

app = typer.Typer(
    help="Upgrade, inspect or prune the database.\n\nExample: narrows db upgrade",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def upgrade(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Bring the schema up to this program. Safe to repeat and to run from several places at once.

    Example: NARROWS_STORE__URL=postgresql+psycopg://narrows@db/narrows narrows db upgrade
    """
    settings = load(ctx)
    demand_store(settings)
    store = open_store(settings.store.url, create=True)
    try:
        after = store.admin.upgrade()
    finally:
        store.close()
    if as_json:
        emit_json({"url": mask_url(settings.store.url), "schema_version": after})
        return
    typer.echo(f"The database is at schema version {after}.")


@app.command()
def status(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Show where the database is and whether its schema is current.

    Example: narrows db status --json
    """
    settings = load(ctx)
    with opened_store(settings) as store:
        store.admin.ping()
        current, head = store.admin.current(), store.admin.head()
        streams = store.streams.all()
    shown = {
        "url": mask_url(settings.store.url),
        "schema_version": current,
        "newest_schema_version": head,
        "up_to_date": current == head,
        "streams": [row.name for row in streams],
    }
    if as_json:
        emit_json(shown)
        return
    remedy = "yes" if current == head else "no, run: narrows db upgrade"
    print_fields(
        [
            ("database", shown["url"]),
            ("schema version", current),
            ("up to date", remedy),
            ("streams", ", ".join(row.name for row in streams) or "none yet"),
        ]
    )


@app.command()
def prune(
    ctx: typer.Context,
    stream: StreamFilter = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how long rows are kept.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete rows older than the stream's retention now; the scheduler does so by itself.

    Example: narrows db prune --stream gas
    """
    settings = load(ctx)
    chosen = [settings.stream(stream)] if stream else list(settings.streams) or [settings.stream()]
    if dry_run:
        emit_json({each.name: each.retention.model_dump(mode="json") for each in chosen})
        return
    deleted: dict[str, dict[str, int]] = {}
    with opened_store(settings) as store:
        for each in chosen:
            deleted[each.name] = dict(
                store.admin.prune(stream=each.name, retention=each.retention, now=datetime.now(UTC))
            )
    if as_json:
        emit_json(deleted)
        return
    rows = [(name, table, n) for name, tables in deleted.items() for table, n in tables.items() if n]
    print_table(
        (Column("stream"), Column("table"), Column("deleted", right=True)), rows, empty="Nothing was old enough."
    )
    if rows:
        say("Space is reused; SQLite gives it back to the disk with VACUUM, PostgreSQL by itself.")
