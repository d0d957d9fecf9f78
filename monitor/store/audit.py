"""The audit log: one line for each change by a person or a job, written in the transaction that makes the change."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.store.rows import AuditEntry
from monitor.store.tables import audit_log


def append(
    connection: Connection,
    *,
    who: str,
    what: str,
    now: datetime,
    stream: str | None = None,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    reason: str | None = None,
) -> None:
    """Add one entry inside the caller's transaction: the change and its entry happen together or not at all.

    Args:
        connection: The caller's write transaction.
        who: Person or process.
        what: Subject and verb, such as ``"model.promote"``.
        now: When.
        stream: Stream that the change belongs to, where it belongs to one.
        before: State that the change found.
        after: State that it left.
        reason: In the words of who did it.
    """
    connection.execute(
        audit_log.insert(),
        {
            "stream": stream,
            "who": who,
            "what": what,
            "before": None if before is None else dict(before),
            "after": None if after is None else dict(after),
            "reason": reason,
            "when": now,
        },
    )


def entries(
    connection: Connection, *, stream: str | None = None, what: tuple[str, ...] = (), limit: int | None = None
) -> list[AuditEntry]:
    """Entries, newest first.

    Args:
        connection: Any transaction.
        stream: Only of this stream.
        what: Only of these kinds.
        limit: At most so many.
    """
    query = sa.select(audit_log).order_by(audit_log.c.id.desc()).limit(limit)
    if stream is not None:
        query = query.where(audit_log.c.stream == stream)
    if what:
        query = query.where(audit_log.c.what.in_(what))
    return [AuditEntry(**row) for row in connection.execute(query).mappings()]
