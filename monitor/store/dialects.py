"""The few statements that the two databases spell differently. ``dialect`` is the name that SQLAlchemy gives it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

AnyInsert = sqlite.Insert | postgresql.Insert


def insert(connection: Connection, table: sa.Table) -> AnyInsert:
    """An INSERT that knows ``on_conflict_do_nothing`` and ``on_conflict_do_update``."""
    return insert_for(connection.dialect.name, table)


def insert_for(dialect: str, table: sa.Table) -> AnyInsert:
    """As ``insert``, for statements that are built once and kept."""
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)


def insert_new(connection: Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert the rows that no unique key refuses.

    Returns:
        How many were inserted.
    """
    statement = _insert_new(connection.dialect.name, table)
    # SQLAlchemy forgets the count of an INSERT unless told to keep it.
    return connection.execute(statement, rows, execution_options={"preserve_rowcount": True}).rowcount


def smaller(dialect: str, left: Any, right: Any) -> sa.ColumnElement[Any]:
    """The smaller of two values of one row."""
    return sa.func.min(left, right) if dialect == "sqlite" else sa.func.least(left, right)


def greater(dialect: str, left: Any, right: Any) -> sa.ColumnElement[Any]:
    """The greater of two values of one row."""
    return sa.func.max(left, right) if dialect == "sqlite" else sa.func.greatest(left, right)


@cache
def _insert_new(dialect: str, table: sa.Table) -> sa.Insert:
    return insert_for(dialect, table).on_conflict_do_nothing().inline()
