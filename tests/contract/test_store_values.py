"""What goes into the store comes out again, on both databases, whatever the records hold."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from threading import Barrier

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.errors import StoreUnavailable
from monitor.store import Store, open_store
from monitor.store.engine import Database
from monitor.store.pipeline_store import SqlPipelineStore
from monitor.store.tables import anomalies, dead_letters, offsets, samples, thresholds
from tests.store_builders import NOW, P0, P1, add_model, anomaly, dead_letter, outcome, part, rows, sample

INJECTION = "x'); DROP TABLE anomalies; --"


@pytest.fixture
def store(store: Store) -> Store:
    """With a model, and the partition claimed."""
    add_model(store)
    store.pipeline.claim("s", {P0: 0})
    return store


class TestTimes:
    @pytest.mark.parametrize(
        "time",
        [
            datetime(1970, 1, 1, tzinfo=UTC),
            datetime(2026, 3, 29, 1, 30, 0, 1, tzinfo=timezone(timedelta(hours=2))),
            datetime(2026, 10, 25, 0, 30, 0, 999999, tzinfo=timezone(-timedelta(hours=11, minutes=30))),
            datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        ],
    )
    def test_time_comes_back_as_the_same_instant_in_utc(self, store: Store, time: datetime) -> None:
        """To the microsecond, whatever the zone."""
        store.pipeline.write(outcome(part(0, 9, anomalies=[anomaly(1, event_time=time)])))
        (row,) = rows(store, anomalies)
        assert row["event_time"] == time
        assert row["event_time"].tzinfo is UTC or row["event_time"].utcoffset() == timedelta(0)

    def test_times_sort_and_compare_in_sql(self, store: Store) -> None:
        """Also where one has no fraction of a second."""
        times = [NOW + timedelta(seconds=step) for step in (0, -1, 2)] + [NOW.replace(microsecond=0)]
        flagged = [anomaly(number, event_time=time) for number, time in enumerate(times)]
        store.pipeline.write(outcome(part(0, 9, anomalies=flagged)))
        with store.database.read() as connection:
            query = sa.select(anomalies.c.event_time).order_by(anomalies.c.event_time)
            assert list(connection.execute(query).scalars()) == sorted(times)
            assert list(connection.execute(query.where(anomalies.c.event_time >= NOW)).scalars()) == sorted(times)[2:]

    def test_naive_time_is_refused(self, store: Store) -> None:
        """It could mean anything."""
        with pytest.raises(sa.exc.StatementError, match="naive"):
            store.pipeline.write(outcome(part(0, 9, anomalies=[anomaly(1, event_time=datetime(2026, 1, 1))])))  # noqa: DTZ001


class TestArrays:
    def test_features_come_back_bit_by_bit(self, store: Store) -> None:
        """All special values included; in SQL, four bytes a number."""
        features = np.array([0.1, -0.0, np.inf, np.nan, np.finfo(np.float32).tiny], dtype=np.float32)
        store.pipeline.write(outcome(part(0, 9, samples=[sample(1, features=features)])))
        with store.database.read() as connection:
            stored, size = connection.execute(sa.select(samples.c.features, sa.func.length(samples.c.features))).one()
        assert stored.dtype == np.float32
        assert stored.tobytes() == features.tobytes()
        assert size == 4 * len(features)

    def test_features_of_another_type_and_order_become_float32(self, store: Store) -> None:
        """A row of a matrix is not contiguous."""
        matrix = np.arange(12, dtype=np.float64).reshape(3, 4)
        store.pipeline.write(outcome(part(0, 9, anomalies=[anomaly(1, features=matrix[:, 1])])))
        assert rows(store, anomalies)[0]["features"] == [1.0, 5.0, 9.0]

    def test_many_rows_come_back_in_their_places(self, store: Store) -> None:
        """More than one round trip of any driver."""
        matrix = np.random.default_rng(0).normal(size=(5000, 8)).astype(np.float32)
        kept = [sample(number, features=row) for number, row in enumerate(matrix)]
        flagged = [anomaly(number, features=row) for number, row in enumerate(matrix)]
        store.pipeline.write(outcome(part(0, 5000, anomalies=flagged, samples=kept)))
        for table in (anomalies, samples):
            with store.database.read() as connection:
                found = connection.execute(sa.select(table.c.features).order_by(table.c.record_offset)).scalars().all()
            np.testing.assert_array_equal(np.stack(found), matrix)

    def test_calibration_scores_keep_their_precision(self, store: Store) -> None:
        """A p-value and a threshold must agree on the last bit."""
        scores = np.nextafter(np.array([1.0, 2.0]), 3.0)
        with store.database.write() as connection:
            connection.execute(sa.update(thresholds).values(calibration_scores=scores))
        assert rows(store, thresholds)[0]["calibration_scores"] == scores.tolist()


class TestText:
    def test_what_postgresql_refuses_is_replaced(self, store: Store) -> None:
        """NUL and lone surrogates, in text and inside JSON: the neighbours must not suffer."""
        bad = "a\x00b\udc80c"
        flagged = anomaly(
            1, record_key=bad, sample_id=bad, label=bad, nearest_class=bad, fingerprint=bad,
            explanation={bad: [bad, {"n": float("nan"), "x": np.float32(0.5), "v": np.array([1.0, np.inf])}]},
        )  # fmt: skip
        letter = dead_letter(2, reason=bad, detail=bad, error_class=bad)
        store.pipeline.write(outcome(part(0, 9, anomalies=[flagged], dead_letters=[letter])))
        (row,), good = rows(store, anomalies), "a\ufffdb\ufffdc"
        assert row["record_key"] == row["sample_id"] == row["label"] == row["nearest_class"] == good
        assert row["explanation"] == {good: [good, {"n": None, "x": 0.5, "v": [1.0, None]}]}
        assert row["incident_id"] is not None
        assert rows(store, dead_letters)[0]["detail"] == good

    def test_json_keeps_a_backslash_before_u0000(self, store: Store) -> None:
        """The text of six characters is no NUL."""
        flagged = anomaly(1, explanation={"path": "c:\\u0000", "emoji": "\N{SNOWMAN}"})
        store.pipeline.write(outcome(part(0, 9, anomalies=[flagged])))
        assert rows(store, anomalies)[0]["explanation"] == {"path": "c:\\u0000", "emoji": "\N{SNOWMAN}"}

    def test_dead_letter_keeps_all_bytes(self, store: Store) -> None:
        """Payload, key and headers of any content; a header may be empty or None, a name may come twice."""
        raw = bytes(range(256))
        headers = (("a", raw), ("a", b"text"), ("b", b""), ("c", None), ("d", b"\x00"), ("\u00fc", "\u00fc".encode()))
        letter = dead_letter(2, payload=raw, key=raw, headers=headers)
        empty = dead_letter(3, payload=b"", key=None, headers=(), record_time=None)
        store.pipeline.write(outcome(part(0, 9, dead_letters=[letter, empty])))
        first, second = rows(store, dead_letters)
        assert (first["payload"], first["record_key"], first["headers"]) == (raw, raw, headers)
        assert (second["payload"], second["record_key"], second["headers"]) == (b"", None, ())

    def test_names_that_look_like_sql_are_only_names(self, store: Store) -> None:
        """Streams, topics and classes come from outside."""
        partition = P0._replace(topic=INJECTION)
        store.pipeline.claim(INJECTION, {partition: 0})
        flagged = anomaly(1, partition=partition, nearest_class=INJECTION, fingerprint=INJECTION)
        store.pipeline.write(outcome(part(0, 9, partition=partition, anomalies=[flagged]), stream=INJECTION))
        (row,) = rows(store, anomalies)
        assert row["stream"] == row["topic"] == row["nearest_class"] == INJECTION
        assert store.pipeline.next_offsets(INJECTION) == {partition: 9}


@pytest.fixture
def postgres_store(postgres_url: str) -> Iterator[Store]:
    """For what only a server can do."""
    with open_store(postgres_url, create=True) as opened:
        yield opened


class TestTransactions:
    @pytest.mark.postgres
    def test_transact_runs_again_when_a_real_deadlock_is_broken(self, postgres_store: Store) -> None:
        """Two transactions take two rows in opposite orders; in the end both have happened."""
        store = postgres_store
        store.pipeline.claim("s", {P0: 0, P1: 0})
        barrier, attempts = Barrier(2), [0, 0]

        def cross(number: int) -> None:
            def work(connection: Connection) -> None:
                attempts[number] += 1
                for step, partition in enumerate([number, 1 - number]):
                    row = offsets.c.partition == partition
                    moved = sa.update(offsets).where(row).values(next_offset=offsets.c.next_offset + 1)
                    connection.execute(moved)
                    if step == 0 and attempts[number] == 1:
                        barrier.wait(timeout=30)

            store.database.transact(work)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(cross, range(2)))
        assert sorted(attempts) == [1, 2]
        assert store.pipeline.next_offsets("s") == {P0: 2, P1: 2}

    @pytest.mark.postgres
    def test_a_lost_connection_is_an_outage_and_the_next_call_works(self, postgres_store: Store) -> None:
        """The server restarts or an administrator ends the session."""
        database = postgres_store.database

        def die(connection: Connection) -> None:
            own = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
            with database.write() as other:
                other.execute(sa.text(f"SELECT pg_terminate_backend({own})"))
            connection.execute(sa.text("SELECT 1"))

        with pytest.raises(StoreUnavailable):
            database.transact(die)
        assert postgres_store.pipeline.next_offsets("s") == {}

    @pytest.mark.postgres
    def test_session_settings_bound_every_wait(self, postgres_url: str) -> None:
        """No lock of a stopped process holds the others for ever; options in the URL are kept."""
        database = Database(f"{postgres_url}?options=-c%20work_mem=8MB")
        try:
            for name, value in [
                ("lock_timeout", "5s"),
                ("statement_timeout", "30s"),
                ("idle_in_transaction_session_timeout", "30s"),
                ("TimeZone", "UTC"),
                ("work_mem", "8MB"),
                ("transaction_isolation", "read committed"),
            ]:
                with database.read() as connection:
                    assert connection.execute(sa.text(f"SHOW {name}")).scalar_one() == value
        finally:
            database.close()

    def test_reader_sees_nothing_of_an_open_transaction(self, store: Store, store_url: str) -> None:
        """Results become visible together."""
        seen: list[int] = []
        with open_store(store_url) as other:

            def look(step: str) -> None:
                if step in ("window_stats", "commit"):
                    seen.append(len(rows(other, anomalies)))

            writer = SqlPipelineStore(store.database, now=lambda: NOW, on_step=look)
            writer.write(outcome(part(0, 9, anomalies=[anomaly(1)])))
            assert seen == [0, 0]
            assert len(rows(other, anomalies)) == 1
