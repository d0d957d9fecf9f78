"""Model version rows inside a caller's transaction: look up, add, move the aliases. No transactions of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from monitor.errors import NotFound
from monitor.store import audit
from monitor.store.rows import ModelVersion
from monitor.store.tables import model_versions

#: Kinds of audit entries that may change who is champion.
_CROWNINGS = ("model.publish", "model.promote", "model.rollback")


def aliased(connection: Connection, stream: str, alias: str) -> ModelVersion | None:
    """The stream's champion or candidate."""
    return _one(connection, model_versions.c.stream == stream, model_versions.c.alias == alias)


def by_id(connection: Connection, version_id: int) -> ModelVersion:
    """One version by its id.

    Raises:
        NotFound: No such version.
    """
    version = _one(connection, model_versions.c.id == version_id)
    if version is None:
        msg = f"There is no model version with id {version_id}."
        raise NotFound(msg)
    return version


def numbered(connection: Connection, stream: str, number: int) -> ModelVersion:
    """One version by its number.

    Raises:
        NotFound: No such number; the message lists those there are.
    """
    version = _one(connection, model_versions.c.stream == stream, model_versions.c.number == number)
    if version is None:
        there = ", ".join(str(each.number) for each in listed(connection, stream)) or "none yet"
        msg = f"{stream} has no model version {number}; it has: {there}."
        raise NotFound(msg)
    return version


def listed(connection: Connection, stream: str | None) -> list[ModelVersion]:
    """Versions by stream and number."""
    query = sa.select(model_versions).order_by(model_versions.c.stream, model_versions.c.number)
    if stream is not None:
        query = query.where(model_versions.c.stream == stream)
    return [_version(row) for row in connection.execute(query).mappings()]


def lock(connection: Connection, stream: str) -> dict[str, int | None]:
    """Make other changes of the stream's versions and thresholds wait for this transaction.

    The first version's row stands for the stream: it is never deleted. SQLite holds its one write lock anyway.
    ``FOR NO KEY UPDATE``, because workers must go on inserting anomalies that refer to the row.

    Returns:
        Aliases as they are under the lock.
    """
    first = sa.select(model_versions.c.id).where(model_versions.c.stream == stream, model_versions.c.number == 1)
    connection.execute(first.with_for_update(key_share=True)).all()
    return aliases(connection, stream)


def aliases(connection: Connection, stream: str) -> dict[str, int | None]:
    """Number of the champion and of the candidate, None for none."""
    query = sa.select(model_versions.c.alias, model_versions.c.number)
    found = connection.execute(query.where(model_versions.c.stream == stream, model_versions.c.alias.is_not(None)))
    return {"champion": None, "candidate": None} | {row.alias: row.number for row in found}


def add(connection: Connection, values: Mapping[str, Any], *, first_is_champion: bool) -> ModelVersion:
    """Insert a version under the next number, as champion if it is the first, else as the candidate."""
    stream = values["stream"]
    newest = sa.select(sa.func.max(model_versions.c.number)).where(model_versions.c.stream == stream)
    number = (connection.execute(newest).scalar() or 0) + 1
    alias = "champion" if number == 1 and first_is_champion else "candidate"
    _retire(connection, stream, alias, note=f"replaced by version {number}")
    insert = model_versions.insert().returning(*model_versions.c)
    row = {**values, "number": number, "alias": alias, "status": "ready"}
    return _version(connection.execute(insert, row).mappings().one())


def crown(connection: Connection, version: ModelVersion, *, note: str | None, retired_note: str | None) -> None:
    """Give ``version`` the alias champion; whoever had it retires."""
    _retire(connection, version.stream, "champion", note=retired_note)
    change(connection, version, alias="champion", status="ready", note=note)


def change(connection: Connection, version: ModelVersion, *, alias: str | None, status: str, note: str | None) -> None:
    """Set what may change of a version."""
    query = model_versions.update().where(model_versions.c.id == version.id)
    connection.execute(query.values(alias=alias, status=status, note=note))


def before_champion(connection: Connection, stream: str) -> ModelVersion:
    """The version to roll back to.

    Raises:
        NotFound: No champion, or none before it that may serve.
    """
    champion = aliased(connection, stream, "champion")
    if champion is None:
        msg = f"{stream} has no champion to roll back from."
        raise NotFound(msg)
    known = {version.number: version for version in listed(connection, stream)}
    for number in reversed(_reign(connection, stream)[:-1]):
        version = known.get(number)
        if version is not None and version.status != "rejected" and number != champion.number:
            return version
    others = ", ".join(str(number) for number in known if number != champion.number) or "none"
    msg = f"No version of {stream} was champion before version {champion.number}. Others to promote: {others}."
    raise NotFound(msg)


def _reign(connection: Connection, stream: str) -> list[int]:
    """Numbers of the champions up to the present one, oldest first; a rollback takes off what it left."""
    reign: list[int] = []
    for entry in reversed(audit.entries(connection, stream=stream, what=_CROWNINGS)):
        champion = (entry.after or {}).get("champion")
        if champion is None or (reign and reign[-1] == champion):
            continue
        if entry.what == "model.rollback" and champion in reign:
            while reign[-1] != champion:
                reign.pop()
        else:
            reign.append(champion)
    return reign


def _retire(connection: Connection, stream: str, alias: str, *, note: str | None) -> None:
    query = model_versions.update().where(model_versions.c.stream == stream, model_versions.c.alias == alias)
    connection.execute(query.values(alias=None, status="retired", note=sa.func.coalesce(note, model_versions.c.note)))


def _one(connection: Connection, *conditions: sa.ColumnElement[bool]) -> ModelVersion | None:
    row = connection.execute(sa.select(model_versions).where(*conditions)).mappings().one_or_none()
    return None if row is None else _version(row)


def _version(row: RowMapping) -> ModelVersion:
    return ModelVersion(**{**row, "classes": tuple(row["classes"])})
