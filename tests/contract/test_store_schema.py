"""Schema revisions and views on both databases."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from monitor.errors import ConfigError, NotFound, SchemaBehind, StoreError
from monitor.store import Store, open_store
from monitor.store.admin import StoreAdmin
from monitor.store.engine import Database
from monitor.store.tables import drift_signals, incidents, job_runs, metadata, model_versions, streams, verdicts
from monitor.store.views import VIEWS
from tests.store_builders import NOW, P0, P1, add_model, anomaly, full_outcome, outcome, part

FRESH = datetime.now(UTC)


def select(store: Store, query: str) -> list[dict[str, object]]:
    """Rows of plain SQL, as an analyst writes it."""
    with store.database.read() as connection:
        return [dict(row) for row in connection.execute(sa.text(query)).mappings()]


class TestMigrations:
    def test_upgrade_makes_what_the_tables_say(self, store: Store) -> None:
        """No difference is left between the migrations and ``tables.py``."""
        with store.database.read() as connection, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # expression indexes cannot be compared on SQLite
            assert compare_metadata(MigrationContext.configure(connection), metadata) == []

    def test_upgrade_after_downgrade_gives_empty_tables_when_there_were_rows(self, store: Store) -> None:
        """Back to the beginning and forth again, with data in the tables."""
        add_model(store)
        store.pipeline.claim("s", {P0: 0, P1: 5})
        store.pipeline.write(full_outcome())
        store.admin.downgrade()
        assert store.admin.current() is None
        with store.database.read() as connection:
            assert sa.inspect(connection).get_table_names() == ["alembic_version"]
            assert sa.inspect(connection).get_view_names() == []
        assert store.admin.upgrade() == store.admin.head() == store.admin.current()
        assert store.pipeline.next_offsets("s") == {}

    def test_upgrade_leaves_nothing_when_it_fails_midway(self, store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A migration and its record are one transaction."""
        monkeypatch.setitem(VIEWS, "stream_health", "SELECT nothing FROM nowhere")
        # SQLite looks into a view only when it is used; a second view of the same name fails in both.
        monkeypatch.setitem(VIEWS, "Stream_Health", "SELECT 1 AS one")
        with closing(Database(store_url)) as database:
            admin = StoreAdmin(database)
            with pytest.raises(sa.exc.DBAPIError):
                admin.upgrade()
            assert admin.current() is None
            with database.read() as connection:
                assert sa.inspect(connection).get_table_names() == []
            monkeypatch.undo()
            admin.upgrade()
            admin.check()

    def test_upgrade_is_safe_when_several_run_at_once(self, store_url: str) -> None:
        """Each as a process of its own would: own pool, own view of the database."""

        def upgrade(_number: int) -> str:
            with open_store(store_url, create=True) as opened:
                return opened.admin.upgrade()

        with ThreadPoolExecutor(4) as pool:
            assert len(set(pool.map(upgrade, range(4)))) == 1

    def test_open_store_refuses_a_newer_schema(self, store: Store, store_url: str) -> None:
        """An old program must not write into tables that it does not know."""
        with store.database.write() as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(StoreError, match="a newer one made it"):
            open_store(store_url)
        with pytest.raises(StoreError, match="a newer one made it"):
            store.admin.upgrade()

    def test_open_store_takes_what_was_upgraded(self, store: Store, store_url: str) -> None:
        """Without leave to change anything."""
        with open_store(store_url, create=False) as opened:
            assert opened.admin.current() == store.admin.head()
            opened.admin.ping()

    def test_open_store_refuses_an_old_schema_when_it_may_not_change_it(self, store: Store, store_url: str) -> None:
        """The message says what to do."""
        store.admin.downgrade()
        with pytest.raises(SchemaBehind, match="narrows db upgrade"):
            open_store(store_url, create=False)

    @pytest.mark.postgres
    def test_open_store_changes_no_postgresql_unasked(self, postgres_url: str) -> None:
        """In production the operator decides when."""
        with pytest.raises(SchemaBehind, match="narrows db upgrade"):
            open_store(postgres_url)

    def test_open_store_makes_a_sqlite_file_and_its_folder(self, tmp_path: Path) -> None:
        """Nothing is to be set up."""
        path = tmp_path / "a" / "b" / "narrows.db"
        open_store(f"sqlite:///{path}").close()
        assert path.exists()

    def test_open_store_makes_no_file_when_told_not_to(self, tmp_path: Path) -> None:
        """A wrong path shows."""
        with pytest.raises(NotFound):
            open_store(f"sqlite:///{tmp_path / 'typo.db'}", create=False)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://u:secret@h/d", "secret"])
    def test_open_store_refuses_other_urls(self, url: str) -> None:
        """And does not repeat a password."""
        with pytest.raises(ConfigError) as caught:
            open_store(url)
        assert "secret" not in str(caught.value)


class TestViews:
    @pytest.fixture
    def store(self, store: Store) -> Store:
        """Three anomalies in two incidents, just detected."""
        add_model(store)
        store.pipeline.claim("s", {P0: 0})
        flagged = [
            anomaly(1, detected_at=FRESH),
            anomaly(2, detected_at=FRESH),
            anomaly(3, detected_at=FRESH, fingerprint="high/1", nearest_class="high", severity="critical"),
            anomaly(4, detected_at=FRESH - timedelta(days=8), fingerprint="high/1", nearest_class="high"),
        ]
        minute = FRESH.replace(second=0, microsecond=0)
        store.pipeline.write(outcome(part(0, 9, anomalies=flagged, scores=[1.0] * 40), window_start=minute))
        return store

    @pytest.mark.parametrize("view", VIEWS)
    def test_view_can_be_read_when_it_is_empty(self, store: Store, view: str) -> None:
        """Right after the installation."""
        select(store, f"SELECT * FROM {view}")

    def test_open_incidents_hides_the_resolved_and_the_snoozed(self, store: Store) -> None:
        """Until the snooze is over."""
        assert {row["fingerprint"] for row in select(store, "SELECT * FROM open_incidents")} == {"low/0", "high/1"}
        low = incidents.c.fingerprint == "low/0"
        for status, until, shown in [
            ("snoozed", FRESH + timedelta(days=1), False),
            ("snoozed", FRESH - timedelta(days=1), True),
            ("acknowledged", None, True),
            ("resolved", None, False),
        ]:
            with store.database.write() as connection:
                connection.execute(sa.update(incidents).where(low).values(status=status, snoozed_until=until))
            names = {row["fingerprint"] for row in select(store, "SELECT * FROM open_incidents")}
            assert ("low/0" in names) == shown, status

    def test_recent_anomalies_shows_a_week_with_verdicts(self, store: Store) -> None:
        """The verdict on the anomaly goes before that on its incident; the newest counts."""
        ids = {row["fingerprint"]: row["id"] for row in select(store, "SELECT id, fingerprint FROM incidents")}
        self.judge(store, incident_id=ids["low/0"], verdict="expected")
        self.judge(store, incident_id=ids["low/0"], verdict="anomaly")
        self.judge(store, anomaly_id=1, verdict="not_anomaly")
        found = select(store, "SELECT * FROM recent_anomalies ORDER BY record_offset")
        assert [(row["record_offset"], row["verdict"], row["model_version"]) for row in found] == [
            (1, "not_anomaly", 1),
            (2, "anomaly", 1),
            (3, None, 1),
        ]

    def test_false_alarm_rate_counts_what_was_judged(self, store: Store) -> None:
        """By version and class; an incident's verdict holds for all its anomalies."""
        ids = {row["fingerprint"]: row["id"] for row in select(store, "SELECT id, fingerprint FROM incidents")}
        self.judge(store, incident_id=ids["low/0"], verdict="anomaly")
        self.judge(store, anomaly_id=1, verdict="new_normal")
        assert select(store, "SELECT * FROM false_alarm_rate") == [
            {
                "stream": "s",
                "model_version": 1,
                "nearest_class": "low",
                "n_judged": 2,
                "n_false_alarms": 1,
                "false_alarm_rate": 0.5,
            }
        ]

    def test_anomaly_rate_hourly_divides_by_all_records(self, store: Store) -> None:
        """From the window statistics."""
        (row,) = select(store, "SELECT * FROM anomaly_rate_hourly")
        assert (row["n_records"], row["n_anomalies"], row["anomaly_rate"]) == (40, 4, 0.1)
        assert str(row["hour"]).startswith(FRESH.strftime("%Y-%m-%d %H:00:00"))

    def test_threshold_history_shows_the_value_before_and_the_end(self, store: Store) -> None:
        """One row a threshold."""
        insert = (
            "INSERT INTO thresholds (model_version_id, class_label, value, alpha, n_calibration, method, source,"
            " valid_from, calibration_scores) SELECT model_version_id, class_label, 2.5, alpha, n_calibration, method,"
            " 'manual', valid_from, calibration_scores FROM thresholds WHERE id = 1"
        )
        if not store.database.is_sqlite:
            insert = f"SELECT setval('thresholds_id_seq', 1); {insert}"
        with store.database.write() as connection:
            connection.exec_driver_sql(insert)
        first, second = select(store, "SELECT * FROM threshold_history ORDER BY threshold_id")
        assert (first["value"], first["previous_value"]) == (2.0, None)
        assert first["valid_to"] is not None
        assert (second["value"], second["previous_value"], second["valid_to"]) == (2.5, 2.0, None)

    def test_model_lineage_shows_the_way_from_the_first_version(self, store: Store) -> None:
        """With the number of generations."""
        with store.database.write() as connection:
            for number in (2, 3):
                values = {"id": number, "number": number, "parent_id": number - 1, "alias": None}
                first = sa.select(*(c for c in model_versions.c if c.name not in values)).limit(1)
                base = dict(connection.execute(first).mappings().one())
                connection.execute(sa.insert(model_versions), {**base, **values})
        last = select(store, "SELECT * FROM model_lineage ORDER BY model_version")[-1]
        assert (last["generation"], last["path"], last["parent_version"]) == (3, "1 > 2 > 3", 2)

    def test_stream_health_sums_up_a_stream(self, store: Store) -> None:
        """One row a configured stream."""
        stream = {"name": "s", "topic": "t", "config_fingerprint": "f", "created_at": NOW, "updated_at": NOW}
        run = {
            "job": "recalibrate",
            "stream": "s",
            "started_at": NOW,
            "status": "succeeded",
            "detail": {},
            "holder": "",
        }
        drift = {"stream": "s", "statistic": "ks", "value": 1.0, "n_reference": 1, "n_current": 1, "detail": {}}
        with store.database.write() as connection:
            connection.execute(sa.insert(streams), stream)
            connection.execute(sa.insert(job_runs), run)
            connection.execute(sa.insert(drift_signals), {**drift, "tripped": True, "created_at": FRESH})
            connection.execute(sa.insert(drift_signals), {**drift, "tripped": False, "created_at": FRESH})
        store.pipeline.record_gap("s", P0, expected=9, resumed_at=12)
        (row,) = select(store, "SELECT * FROM stream_health")
        expected = {
            "champion_version": 1,
            "lag": 7,
            "records_last_hour": 40,
            "anomalies_last_hour": 4,
            "anomaly_rate_last_hour": 0.1,
            "unresolved_incidents": 2,
            "drift_signals_last_day": 1,
            "lost_offsets_last_day": 3,
            "last_retrained_at": None,
        }
        assert {name: row[name] for name in expected} == expected
        assert row["last_recalibrated_at"] is not None

    def judge(self, store: Store, *, verdict: str, incident_id: object = None, anomaly_id: object = None) -> None:
        """An analyst's judgement."""
        subject = {"incident_id": incident_id, "anomaly_id": anomaly_id}
        with store.database.write() as connection:
            row = {"stream": "s", "verdict": verdict, "author": "ana", "created_at": NOW, **subject}
            connection.execute(sa.insert(verdicts), row)


class TestPlans:
    @pytest.mark.parametrize(
        "query",
        [
            "SELECT * FROM recent_anomalies ORDER BY detected_at DESC LIMIT 20",
            "SELECT * FROM recent_anomalies WHERE stream = 's' ORDER BY detected_at DESC LIMIT 20",
            "SELECT * FROM recent_anomalies WHERE incident_id = 4",
            "SELECT * FROM open_incidents ORDER BY last_seen DESC LIMIT 20",
            "SELECT * FROM open_incidents WHERE stream = 's'",
            "SELECT * FROM false_alarm_rate",
        ],
    )
    def test_view_reads_large_tables_through_an_index(self, tmp_path: Path, query: str) -> None:
        """No plan walks through all anomalies or incidents."""
        with open_store(f"sqlite:///{tmp_path / 'a.db'}") as store:
            plan = [str(row["detail"]) for row in select(store, f"EXPLAIN QUERY PLAN {query}")]
        assert [step for step in plan if step.startswith("SCAN") and "INDEX" not in step and step[5:6] in "ai"] == []
