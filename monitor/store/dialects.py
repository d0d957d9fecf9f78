"""The few statements that the two databases spell differently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection


def insert(connection: Connection, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that knows ``on_conflict_do_nothing`` and ``on_conflict_do_update``."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def smaller(connection: Connection, left: Any, right: Any) -> sa.ColumnElement[Any]:
    """The smaller of two values of one row."""
    return sa.func.min(left, right) if connection.dialect.name == "sqlite" else sa.func.least(left, right)


def greater(connection: Connection, left: Any, right: Any) -> sa.ColumnElement[Any]:
    """The greater of two values of one row."""
    return sa.func.max(left, right) if connection.dialect.name == "sqlite" else sa.func.greatest(left, right)


def insert_new(connection: Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert the rows that no unique key refuses.

    Returns:
        How many were inserted.
    """
    statement = insert(connection, table).on_conflict_do_nothing().inline()
    # SQLAlchemy forgets the count of an INSERT unless told to keep it.
    return connection.execute(statement, rows, execution_options={"preserve_rowcount": True}).rowcount
