"""Kept samples for calibration and training, rows of training files, and labels that arrive late.

The stream's own samples are added by the pipeline's transaction, not here. A label in ``labels`` overrides the one that
came with the record; a verdict of an analyst overrides what the detector thought.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Connection

from monitor.records import TopicPartition
from monitor.sampling import choose, reservoir_keys
from monitor.store import sample_queries
from monitor.store.dialects import insert
from monitor.store.engine import Database
from monitor.store.rows import SampleSet
from monitor.store.sample_trim import trim_samples
from monitor.store.tables import labels as late_labels
from monitor.store.tables import samples

#: Rows in one statement: bounds the memory of a statement, and stays below SQLite's limit of variables.
_CHUNK = 500
#: Rows of a class that a training file may leave in the store; more would fill it, and a retraining takes no more.
_SEED_PER_CLASS = 2_000


class SampleStore:
    """Samples and late labels. Blocking; may be called from any thread; raises ``StoreUnavailable`` (retry)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def calibration_set(self, stream: str, *, limit: int, after: datetime | None = None) -> SampleSet:
        """Normal samples: not flagged, or called ``not_anomaly`` or ``new_normal``; newest first.

        Rows of training files are left out: the encoder has seen them, so their scores are too low.

        Args:
            stream: Stream.
            limit: At most so many.
            after: Only events later than this, such as the end of the champion's training window.
        """
        return self._fetch(sample_queries.normal(stream, limit=limit, after=after))

    def complete_set(self, stream: str, *, limit: int, after: datetime | None = None) -> SampleSet:
        """As ``calibration_set``, flagged and judged ones included: a complete sample of what the stream brought."""
        return self._fetch(sample_queries.scored(stream, limit=limit, after=after))

    def training_set(self, stream: str, *, classes: Sequence[str] | None, limit_per_class: int) -> SampleSet:
        """Labelled samples, at most ``limit_per_class`` of each class, newest first.

        Half of a class's rows are its newest, the rest a uniform choice from the older ones. What a verdict calls an
        anomaly is left out. A flagged row counts if a verdict calls it normal, or if its label is one of ``classes``:
        a label of a known class vouches for it, and after drift such rows are the ones to learn from.

        Args:
            stream: Stream.
            classes: Only these labels; None for all.
            limit_per_class: At most so many of each.
        """
        return self._fetch(sample_queries.labelled(stream, classes=classes, limit_per_class=limit_per_class))

    def count(self, stream: str) -> int:
        """Kept samples of the stream."""
        query = sa.select(sa.func.count()).select_from(samples).where(samples.c.stream == stream)
        with self._database.read() as connection:
            return connection.execute(query).scalar_one()

    def seed(
        self,
        stream: str,
        x: NDArray[Any],
        labels: Sequence[str | None] | None,
        *,
        source: str,
        now: datetime,
        event_times: Sequence[datetime] | None = None,
        limit_per_class: int = _SEED_PER_CLASS,
    ) -> int:
        """Keep rows of a training file, in one transaction; the same file again replaces its rows.

        A file is history: its rows count as older than all that the stream has brought, so they never push recent
        samples out. Of a class with more rows than ``limit_per_class``, a uniform choice is kept.

        Args:
            stream: Stream.
            x: Features, (n, D).
            labels: Label of each row, None for none; None as a whole for an unlabelled file.
            source: Name of the file; its rows have topic ``file:<source>``, partition 0, and the row index as offset.
            now: When.
            event_times: Time of each row; ``now`` where the file has none.
            limit_per_class: Rows that are kept of each class.

        Returns:
            Number of rows kept.
        """
        place = TopicPartition(f"file:{source}", 0)
        names = [None] * len(x) if labels is None else list(labels)
        keys = reservoir_keys(place, np.arange(len(x), dtype=np.int64))
        chosen = _chosen(names, keys, limit_per_class=limit_per_class)
        features = np.ascontiguousarray(x, dtype=np.float32)
        common = {"stream": stream, "topic": place.topic, "partition": place.partition, "flagged": False}

        def work(connection: Connection) -> int:
            same_file = sa.and_(samples.c.stream == stream, samples.c.topic == place.topic)
            connection.execute(samples.delete().where(same_file))
            kept_at = _before_all(connection, stream, now)
            for chunk in _chunks(chosen):
                rows = [
                    {
                        **common,
                        "record_offset": int(row),
                        "event_time": now if event_times is None else event_times[row],
                        "kept_at": kept_at,
                        "features": features[row],
                        "label": names[row],
                        "predicted_class": names[row] or "",
                        "reservoir_key": float(keys[row]),
                    }
                    for row in chunk
                ]
                connection.execute(samples.insert(), rows)
            return len(chosen)

        return self._database.transact(work)

    def add_labels(self, stream: str, labels: Mapping[str, str], *, source: str, now: datetime) -> int:
        """Note labels that arrived after their records; the newest label of a sample wins.

        Small transactions: a file of labels is no reason to make workers wait. Running it again is harmless.

        Args:
            stream: Stream.
            labels: Label by sample id.
            source: Where they came from.
            now: When they arrived.

        Returns:
            Number of kept samples that have one of these labels now; labels of samples not kept are noted all the same.
        """
        found = 0
        for chunk in _chunks(sorted(labels.items())):
            rows = [
                {"stream": stream, "sample_id": sample_id, "label": label, "source": source, "created_at": now}
                for sample_id, label in chunk
            ]
            found += self._database.transact(partial(_add_labels, stream=stream, rows=rows))
        return found

    def trim(self, stream: str, *, recent: int, reservoir_per_class: int) -> int:
        """Delete what is neither among the newest ``recent`` nor in the reservoir of its class.

        Returns:
            Number of rows deleted.
        """
        return self._database.transact(
            lambda connection: trim_samples(connection, stream, recent=recent, reservoir_per_class=reservoir_per_class)
        )

    def _fetch(self, query: sa.Select[Any]) -> SampleSet:
        with self._database.read() as connection:
            return sample_queries.fetch(connection, query)


def _chosen(labels: Sequence[str | None], keys: NDArray[np.float64], *, limit_per_class: int) -> NDArray[np.int64]:
    """Rows of a file to keep: per label those with the smallest keys, in order of row."""
    names = np.array([label or "" for label in labels], dtype=object)
    rows = [np.flatnonzero(names == name) for name in sorted(set(names))]
    kept = [group[choose(keys[group], limit=limit_per_class)] for group in rows]
    return np.sort(np.concatenate(kept)) if kept else np.empty(0, dtype=np.int64)


def _before_all(connection: Connection, stream: str, now: datetime) -> datetime:
    """``now``, or when the oldest sample that the stream itself brought was kept."""
    oldest = sa.select(sa.func.min(samples.c.kept_at)).where(samples.c.stream == stream, samples.c.score.is_not(None))
    first: datetime | None = connection.execute(oldest).scalar()
    return now if first is None else min(now, first)


def _add_labels(connection: Connection, *, stream: str, rows: Sequence[Mapping[str, Any]]) -> int:
    add = insert(connection, late_labels)
    new = add.excluded
    upsert = add.on_conflict_do_update(
        index_elements=["stream", "sample_id"],
        set_={"label": new.label, "source": new.source, "created_at": new.created_at},
        where=late_labels.c.created_at <= new.created_at,
    )
    connection.execute(upsert, list(rows))
    # Also in the sample itself: the reservoir of a class is chosen by this column.
    newest = sa.select(late_labels.c.label).where(
        late_labels.c.stream == samples.c.stream, late_labels.c.sample_id == samples.c.sample_id
    )
    ids = [row["sample_id"] for row in rows]
    query = samples.update().where(samples.c.stream == stream, samples.c.sample_id.in_(ids))
    return connection.execute(query.values(label=newest.scalar_subquery())).rowcount


def _chunks(items: Sequence[Any] | NDArray[Any]) -> Iterator[Any]:
    return (items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK))
