"""The worker's side of the store: progress and results in one transaction. Nothing here asks who the worker is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.errors import OffsetConflict, StoreError
from monitor.records import BatchOutcome, TopicPartition
from monitor.store import result_rows
from monitor.store.dialects import insert_new
from monitor.store.engine import Database
from monitor.store.incidents import group, join_incidents
from monitor.store.sample_trim import Trimmer
from monitor.store.tables import anomalies, dead_letters, offset_gaps, offsets, samples
from monitor.store.window_stats import add_window

logger = logging.getLogger(__name__)

_MOVE_OFFSET = (
    sa.update(offsets)
    .where(
        offsets.c.stream == sa.bindparam("key_stream"),
        offsets.c.topic == sa.bindparam("key_topic"),
        offsets.c.partition == sa.bindparam("key_partition"),
        offsets.c.next_offset == sa.bindparam("expected"),
    )
    .values(next_offset=sa.bindparam("new_offset"), updated_at=sa.bindparam("now"))
)
_MARK_REDRIVEN = (
    sa.update(dead_letters)
    .where(
        dead_letters.c.id == sa.bindparam("key_id"),
        dead_letters.c.stream == sa.bindparam("key_stream"),
        dead_letters.c.redriven_at.is_(None),
    )
    .values(redriven_at=sa.bindparam("now"))
)


def _no_step(_name: str) -> None:
    """Nothing is watched."""


class SqlPipelineStore:
    """``ports.PipelineStore`` on a database. Thread-safe; every method blocks.

    Args:
        database: Where.
        now: Processing time, aware, UTC.
        on_step: Called before each numbered step of ``write`` with its name, and with ``"committed"`` after the last
            one: the place where a test lets a step fail.
    """

    def __init__(
        self, database: Database, *, now: Callable[[], datetime], on_step: Callable[[str], None] = _no_step
    ) -> None:
        self._database = database
        self._now = now
        self._on_step = on_step
        self._trimmer = Trimmer()

    def limit_samples(self, stream: str, *, recent: int, reservoir_per_class: int) -> None:
        """Say how many samples of a stream ``write`` lets stand; see ``sample_trim.trim_samples``."""
        self._trimmer.limit(stream, recent=recent, reservoir_per_class=reservoir_per_class)

    def claim(self, stream: str, starts: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Stored offset of each partition of ``starts``; where there is none yet, ``starts`` is stored first.

        Raises:
            StoreUnavailable: The database is away.
        """
        stored = self.next_offsets(stream)
        missing = {partition: start for partition, start in sorted(starts.items()) if partition not in stored}
        if missing:
            stored = self._database.transact(lambda connection: self._create_offsets(connection, stream, missing))
        return {partition: stored[partition] for partition in starts}

    def next_offsets(self, stream: str) -> dict[TopicPartition, int]:
        """All stored offsets of the stream.

        Raises:
            StoreUnavailable: The database is away.
        """
        with self._database.read() as connection:
            return _offsets(connection, stream)

    def write(self, outcome: BatchOutcome) -> None:
        """Write the whole outcome in one transaction, or nothing of it.

        1. offsets: each moves by compare-and-set, in the order of partitions; all that did not are named together
        2. incidents: each group of like anomalies joins its incident or opens one
        3. anomalies
        4. dead letters
        5. samples, and now and then the trimming of old ones
        6. window statistics: the one row that workers share, last, so that its lock is short
        7. commit

        Raises:
            OffsetConflict: An offset was not the expected one; nothing at all was written.
            StoreUnavailable: The database is away. Whether step 7 happened may be unknown; the stored offsets tell.
        """
        if not outcome.parts:
            return
        self._database.transact(lambda connection: self._write(connection, outcome))
        self._on_step("committed")
        self._trimmer.committed(outcome.stream, added=sum(len(part.samples) for part in outcome.parts))

    def write_redrive(self, outcome: BatchOutcome, dead_letter_ids: Collection[int]) -> None:
        """Write results of dead letters that were scored after all: as ``write``, but step 1 marks them instead.

        Args:
            outcome: Results; its offsets are not looked at, and it has no dead letters.
            dead_letter_ids: The rows of ``dead_letters`` that it answers.

        Raises:
            StoreError: One of them does not exist or was redriven meanwhile; nothing was written.
            StoreUnavailable: The database is away.
        """
        if any(part.dead_letters for part in outcome.parts):
            msg = "what is still invalid stays a dead letter as it is"
            raise ValueError(msg)
        ids = sorted(set(dead_letter_ids))
        self._database.transact(lambda connection: self._write_redrive(connection, outcome, ids))
        self._on_step("committed")
        self._trimmer.committed(outcome.stream, added=sum(len(part.samples) for part in outcome.parts))

    def record_gap(self, stream: str, partition: TopicPartition, *, expected: int, resumed_at: int) -> None:
        """Note that the broker no longer has [expected, resumed_at), and move the offset, in one transaction.

        Raises:
            OffsetConflict: Another worker was faster; nothing was written.
            StoreUnavailable: The database is away.
        """

        def note(connection: Connection) -> None:
            now = self._now()
            if not _move(connection, stream, partition, expected=expected, next_offset=resumed_at, now=now):
                raise OffsetConflict([partition])
            row = {"stream": stream, "topic": partition.topic, "partition": partition.partition}
            gap = {"from_offset": expected, "to_offset": resumed_at, "detected_at": now}
            connection.execute(sa.insert(offset_gaps), {**row, **gap})

        self._database.transact(note)

    def _create_offsets(
        self, connection: Connection, stream: str, starts: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, int]:
        now = self._now()
        rows = [
            {"stream": stream, "topic": topic, "partition": number, "next_offset": start, "updated_at": now}
            for (topic, number), start in starts.items()
        ]
        insert_new(connection, offsets, rows)
        return _offsets(connection, stream)

    def _write(self, connection: Connection, outcome: BatchOutcome) -> None:
        now = self._now()
        self._on_step("offsets")  # 1
        _move_all(connection, outcome, now=now)
        self._write_results(connection, outcome, now=now)  # 2 to 6
        self._on_step("commit")  # 7

    def _write_redrive(self, connection: Connection, outcome: BatchOutcome, ids: Sequence[int]) -> None:
        now = self._now()
        self._on_step("redriven")  # instead of 1
        rows = [{"key_id": number, "key_stream": outcome.stream, "now": now} for number in ids]
        if rows and connection.execute(_MARK_REDRIVEN, rows).rowcount != len(rows):
            msg = "Some of these dead letters do not exist or were redriven meanwhile; nothing was written. List again."
            raise StoreError(msg)
        self._write_results(connection, outcome, now=now)
        self._on_step("commit")

    def _write_results(self, connection: Connection, outcome: BatchOutcome, *, now: datetime) -> None:
        stream, parts = outcome.stream, outcome.parts
        flagged = [anomaly for part in parts for anomaly in part.anomalies]
        self._on_step("incidents")  # 2
        incident_ids = join_incidents(connection, stream, group(flagged), now=now) if flagged else {}
        self._on_step("anomalies")  # 3
        _add(connection, anomalies, result_rows.anomaly_rows(stream, flagged, incident_ids))
        self._on_step("dead_letters")  # 4
        letters = [letter for part in parts for letter in part.dead_letters]
        _add(connection, dead_letters, result_rows.dead_letter_rows(stream, letters, now=now))
        self._on_step("samples")  # 5
        kept = [sample for part in parts for sample in part.samples]
        _add(connection, samples, result_rows.sample_rows(stream, kept))
        self._trimmer.trim(connection, stream, added=len(kept))
        self._on_step("window_stats")  # 6
        add_window(connection, outcome, now=now)


def _offsets(connection: Connection, stream: str) -> dict[TopicPartition, int]:
    columns = (offsets.c.topic, offsets.c.partition, offsets.c.next_offset)
    found = connection.execute(sa.select(*columns).where(offsets.c.stream == stream))
    return {TopicPartition(topic, partition): next_offset for topic, partition, next_offset in found}


def _move(
    connection: Connection, stream: str, partition: TopicPartition, *, expected: int, next_offset: int, now: datetime
) -> bool:
    key = {"key_stream": stream, "key_topic": partition.topic, "key_partition": partition.partition}
    values = {"expected": expected, "new_offset": next_offset, "now": now}
    return connection.execute(_MOVE_OFFSET, {**key, **values}).rowcount == 1


def _move_all(connection: Connection, outcome: BatchOutcome, *, now: datetime) -> None:
    lost = [
        part.partition
        # In one order for all workers: two that share partitions for a moment wait in line and do not deadlock.
        for part in sorted(outcome.parts, key=lambda part: part.partition)
        if not _move(
            connection,
            outcome.stream,
            part.partition,
            expected=part.expected,
            next_offset=part.next_offset,
            now=now,
        )
    ]
    if lost:
        raise OffsetConflict(lost)


def _add(connection: Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert; the unique key is only the second belt, so a row that it refuses means that the first one broke."""
    if not rows:
        return
    added = insert_new(connection, table, rows)
    if added != len(rows):
        logger.error(
            "%d of %d rows of %s were there already although the offsets had not moved: were offsets set back by hand?",
            len(rows) - added, len(rows), table.name,
            extra={"action": "duplicate_results"},
        )  # fmt: skip
