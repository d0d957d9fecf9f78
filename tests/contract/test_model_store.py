"""Model versions and thresholds: numbers without gaps, one champion, a history that can be walked back."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import sqlalchemy as sa

from models.api import ThresholdSpec
from monitor.errors import LeaseLost, NotFound, StoreError
from monitor.store import Store, version_rows
from monitor.store.model_queries import revision_query
from monitor.store.rows import Lease, ModelVersion

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
STREAM = "gas"


def spec(label: str, value: float, *, scores: tuple[float, ...] = (0.5, 1.0, 2.0)) -> ThresholdSpec:
    """A threshold as training hands it over."""
    return ThresholdSpec(label, value, 0.01, len(scores), "conformal", np.array(scores, dtype=np.float64))


def publish(store: Store, *, stream: str = STREAM, sha: str = "ab", lease: Lease | None = None) -> ModelVersion:
    """A version with two classes."""
    return store.models.publish(
        stream=stream,
        artifact_uri=f"file:///models/{sha}",
        sha256=sha * 32,
        classes=("b", "a"),
        n_train=80,
        n_calibration=20,
        metrics={"accuracy": 0.9},
        thresholds=[spec("a", 2.0), spec("b", 3.0)],
        now=NOW,
        who="tester",
        lease=lease,
    )


def published(store: Store, n: int) -> None:
    """Versions 1 to n, each promoted in its turn."""
    for number in range(1, n + 1):
        publish(store)
        store.models.promote(STREAM, number, who="tester", reason="newer", now=NOW)


def numbers_by_alias(store: Store) -> dict[str, list[int]]:
    """Which versions carry which alias."""
    found: dict[str, list[int]] = {}
    for version in store.models.versions(STREAM):
        if version.alias:
            found.setdefault(version.alias, []).append(version.number)
    return found


def both(first: Callable[[], object], second: Callable[[], object]) -> list[object]:
    """Results, or the errors, of two calls made at the same time."""

    def outcome(call: Callable[[], object]) -> object:
        try:
            return call()
        except StoreError as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(outcome, (first, second)))


class TestPublish:
    def test_publish_makes_the_first_version_champion_and_a_later_one_candidate(self, store: Store) -> None:
        """Somebody must score; after that the gate decides."""
        first, second = publish(store), publish(store)
        assert (first.number, first.alias, first.status) == (1, "champion", "ready")
        assert (second.number, second.alias) == (2, "candidate")
        assert store.models.champion(STREAM) == first

    def test_publish_returns_what_version_reads_back(self, store: Store) -> None:
        """Every value survives the database, the order of the classes too."""
        first = publish(store)
        assert store.models.version(STREAM, 1) == first
        assert first.classes == ("b", "a")
        assert first.metrics == {"accuracy": 0.9}
        assert first.created_at == NOW

    def test_publish_leaves_the_first_version_candidate_when_told_so(self, store: Store) -> None:
        """A cautious operator promotes by hand."""
        version = store.models.publish(
            stream=STREAM,
            artifact_uri="u",
            sha256="0" * 64,
            classes=("a",),
            n_train=1,
            n_calibration=1,
            metrics={},
            thresholds=[],
            now=NOW,
            who="tester",
            first_is_champion=False,
        )
        assert version.alias == "candidate"
        assert store.models.champion(STREAM) is None

    def test_publish_takes_the_alias_from_an_older_candidate(self, store: Store) -> None:
        """At most one candidate waits."""
        for _ in range(3):
            publish(store)
        assert numbers_by_alias(store) == {"champion": [1], "candidate": [3]}
        assert store.models.version(STREAM, 2).status == "retired"

    def test_publish_numbers_each_stream_by_itself(self, store: Store) -> None:
        """Version 1 of another stream is not version 2 of this one."""
        publish(store)
        assert publish(store, stream="digits").number == 1
        assert [version.stream for version in store.models.versions(None)] == ["digits", "gas"]

    def test_publish_leaves_no_gap_when_two_threads_race(self, store: Store) -> None:
        """Numbers are 1 to n, and one version is champion, whoever came first."""
        for _ in range(4):
            both(lambda: publish(store), lambda: publish(store))
        assert sorted(version.number for version in store.models.versions(STREAM)) == list(range(1, 9))
        assert {alias: len(numbers) for alias, numbers in numbers_by_alias(store).items()} == {
            "champion": 1,
            "candidate": 1,
        }

    def test_publish_writes_nothing_when_the_lease_is_lost(self, store: Store) -> None:
        """A trainer that was declared dead must not publish."""
        old = store.jobs.acquire("retrain", holder="a:1", ttl_s=10, now=NOW)
        assert old is not None
        assert store.jobs.acquire("retrain", holder="b:2", ttl_s=10, now=NOW + timedelta(seconds=11)) is not None
        with pytest.raises(LeaseLost, match="retrain"):
            publish(store, lease=old)
        assert store.models.versions(STREAM) == []

    def test_publish_writes_when_the_lease_is_held(self, store: Store) -> None:
        """The ordinary way of a scheduler."""
        lease = store.jobs.acquire("retrain", holder="a:1", ttl_s=10, now=NOW)
        assert publish(store, lease=lease).number == 1


class TestPromoteAndRollBack:
    def test_promote_moves_the_alias_and_retires_the_old_champion(self, store: Store) -> None:
        """One champion before, one champion after."""
        publish(store), publish(store)
        assert store.models.promote(STREAM, 2, who="ann", reason="better", now=NOW).alias == "champion"
        assert numbers_by_alias(store) == {"champion": [2]}
        assert store.models.version(STREAM, 1).status == "retired"

    def test_promote_changes_nothing_when_the_version_is_champion_already(self, store: Store) -> None:
        """A repeated command is harmless, and rollback does not count it."""
        published(store, 2)
        again = store.models.promote(STREAM, 2, who="ann", reason="twice", now=NOW)
        assert again == store.models.champion(STREAM)
        assert store.models.rollback(STREAM, who="ann", reason="bad", now=NOW).number == 1

    def test_promote_refuses_a_rejected_version_without_force(self, store: Store) -> None:
        """What the gate refused needs a person who insists."""
        publish(store), publish(store)
        store.models.reject(STREAM, 2, reason="worse", who="gate", now=NOW)
        with pytest.raises(StoreError, match="force"):
            store.models.promote(STREAM, 2, who="ann", reason="please", now=NOW)
        forced = store.models.promote(STREAM, 2, who="ann", reason="really", now=NOW, force=True)
        assert (forced.alias, forced.status) == ("champion", "ready")

    def test_promote_leaves_one_champion_when_two_threads_race(self, store: Store) -> None:
        """Whatever the order, the table never holds two."""
        for _ in range(3):
            publish(store)
        for _ in range(4):
            both(
                lambda: store.models.promote(STREAM, 2, who="a", reason="", now=NOW),
                lambda: store.models.promote(STREAM, 3, who="b", reason="", now=NOW),
            )
            assert len(numbers_by_alias(store)["champion"]) == 1

    @pytest.mark.parametrize("change", ["promote", "rollback", "reject", "publish", "set_thresholds"])
    def test_a_change_waits_for_another_of_the_same_stream(self, store: Store, change: str) -> None:
        """One after the other, whatever the isolation: what the second one found is what the first one left."""
        published(store, 2)
        publish(store)
        calls: dict[str, Callable[[], object]] = {
            "promote": lambda: store.models.promote(STREAM, 3, who="b", reason="", now=NOW),
            "rollback": lambda: store.models.rollback(STREAM, who="b", reason="", now=NOW),
            "reject": lambda: store.models.reject(STREAM, 3, who="b", reason="", now=NOW),
            "publish": lambda: publish(store),
            "set_thresholds": lambda: store.models.set_thresholds(
                store.models.version(STREAM, 2).id, [spec("a", 7.0)], source="manual", cause=None, who="b", now=NOW
            ),
        }
        with ThreadPoolExecutor(1) as pool:
            with store.database.write() as connection:
                version_rows.lock(connection, STREAM)
                second = pool.submit(calls[change])
                assert not wait([second], timeout=0.5).done
            second.result(timeout=30)
        assert len(numbers_by_alias(store)["champion"]) == 1

    def test_promote_records_what_another_promotion_left(self, store: Store) -> None:
        """The entry that rollback reads must not name a champion of before the wait."""
        for _ in range(3):
            publish(store)
        with ThreadPoolExecutor(1) as pool:
            with store.database.write() as connection:
                version_rows.lock(connection, STREAM)
                second = pool.submit(store.models.promote, STREAM, 2, who="b", reason="", now=NOW)
                wait([second], timeout=0.5)
                third = version_rows.numbered(connection, STREAM, 3)
                version_rows.crown(connection, third, note=None, retired_note=None)
            second.result(timeout=30)
        assert store.models.audit_trail(STREAM, limit=1)[0].before == {"champion": 3, "candidate": None}
        assert numbers_by_alias(store) == {"champion": [2]}

    def test_promote_writes_nothing_when_the_lease_is_lost(self, store: Store) -> None:
        """A zombie scheduler changes no champion."""
        publish(store), publish(store)
        lease = store.jobs.acquire("retrain", holder="a:1", ttl_s=10, now=NOW)
        assert lease is not None
        store.jobs.release(lease)
        with pytest.raises(LeaseLost):
            store.models.promote(STREAM, 2, who="a", reason="", now=NOW, lease=lease)
        assert numbers_by_alias(store) == {"champion": [1], "candidate": [2]}

    def test_promote_lists_what_there_is_when_the_number_is_unknown(self, store: Store) -> None:
        """The message is the remedy."""
        publish(store), publish(store)
        with pytest.raises(NotFound, match="1, 2"):
            store.models.promote(STREAM, 7, who="ann", reason="", now=NOW)

    def test_rollback_walks_further_back_each_time(self, store: Store) -> None:
        """The second rollback does not return to what the first one left."""
        published(store, 3)
        walked = [store.models.rollback(STREAM, who="ann", reason="bad", now=NOW).number for _ in range(2)]
        assert walked == [2, 1]
        with pytest.raises(NotFound, match="before version 1"):
            store.models.rollback(STREAM, who="ann", reason="bad", now=NOW)

    def test_rollback_goes_to_the_version_before_when_promoted_out_of_order(self, store: Store) -> None:
        """History, not number, says what came before."""
        published(store, 3)
        store.models.promote(STREAM, 1, who="ann", reason="old is good", now=NOW)
        assert store.models.rollback(STREAM, who="ann", reason="it was not", now=NOW).number == 3

    def test_rollback_passes_over_rejected_versions(self, store: Store) -> None:
        """What somebody rejected after the fact does not come back by itself."""
        published(store, 3)
        store.models.reject(STREAM, 2, reason="leaked labels", who="ann", now=NOW)
        assert store.models.rollback(STREAM, who="ann", reason="bad", now=NOW).number == 1

    def test_rollback_says_so_when_there_is_no_champion(self, store: Store) -> None:
        """Nothing was ever promoted."""
        with pytest.raises(NotFound, match="no champion"):
            store.models.rollback(STREAM, who="ann", reason="bad", now=NOW)

    def test_reject_takes_the_alias_of_a_candidate(self, store: Store) -> None:
        """The reason stays with the version."""
        publish(store), publish(store)
        rejected = store.models.reject(STREAM, 2, reason="worse", who="gate", now=NOW)
        assert (rejected.alias, rejected.status, rejected.note) == (None, "rejected", "worse")

    def test_reject_refuses_the_champion(self, store: Store) -> None:
        """A stream without a champion would stop."""
        publish(store)
        with pytest.raises(StoreError, match="rollback"):
            store.models.reject(STREAM, 1, reason="bad", who="ann", now=NOW)

    def test_changes_leave_before_and_after_in_the_audit_log(self, store: Store) -> None:
        """Who did what, in order."""
        published(store, 2)
        store.models.rollback(STREAM, who="ann", reason="bad", now=NOW)
        trail = store.models.audit_trail(STREAM, limit=10)
        assert [entry.what for entry in trail] == ["model.rollback", "model.promote", "model.publish", "model.publish"]
        assert trail[0].before == {"champion": 2, "candidate": None}
        assert trail[0].after == {"champion": 1, "candidate": None}
        assert (trail[0].who, trail[0].reason, trail[0].when) == ("ann", "bad", NOW)


class TestThresholds:
    def test_thresholds_come_in_the_order_of_the_classes(self, store: Store) -> None:
        """The worker pairs them with the scorer by position."""
        version = publish(store)
        found = store.models.thresholds(version.id)
        assert [(row.class_label, row.value, row.source) for row in found] == [
            ("b", 3.0, "training"),
            ("a", 2.0, "training"),
        ]
        assert found[0].calibration_scores.tolist() == [0.5, 1.0, 2.0]
        assert found[0].calibration_scores.dtype == np.float64

    def test_set_thresholds_adds_rows_and_keeps_the_old(self, store: Store) -> None:
        """History is never rewritten."""
        version = publish(store)
        before = store.models.threshold_history(STREAM, limit=10)
        later = NOW + timedelta(hours=1)
        current = store.models.set_thresholds(
            version.id, [spec("a", 2.5)], source="recalibration", cause="drift", who="job", now=later
        )
        assert [(row.class_label, row.value) for row in current] == [("b", 3.0), ("a", 2.5)]
        assert current == store.models.thresholds(version.id)
        history = store.models.threshold_history(STREAM, limit=10)
        assert history[1:] == before
        assert (history[0].valid_from, history[0].source, history[0].cause) == (later, "recalibration", "drift")

    def test_set_thresholds_keeps_the_calibration_scores_when_manual(self, store: Store) -> None:
        """A person moves the boundary; p-values go on meaning what they meant."""
        version = publish(store)
        manual = spec("a", 9.0, scores=())
        current = store.models.set_thresholds(version.id, [manual], source="manual", cause="", who="ann", now=NOW)
        assert current[1].value == 9.0
        assert current[1].calibration_scores.tolist() == [0.5, 1.0, 2.0]
        assert current[1].n_calibration == 3

    def test_set_thresholds_writes_nothing_when_the_lease_is_lost(self, store: Store) -> None:
        """A zombie recalibration moves no threshold."""
        version = publish(store)
        lease = Lease("recalibrate", "a:1", 1, NOW)
        with pytest.raises(LeaseLost):
            store.models.set_thresholds(
                version.id, [spec("a", 9.0)], source="recalibration", cause=None, who="job", now=NOW, lease=lease
            )
        assert [row.value for row in store.models.thresholds(version.id)] == [3.0, 2.0]

    def test_set_thresholds_refuses_a_class_that_the_version_does_not_know(self, store: Store) -> None:
        """A typing error is not a new class."""
        version = publish(store)
        with pytest.raises(NotFound, match="b, a"):
            store.models.set_thresholds(version.id, [spec("x", 1)], source="manual", cause=None, who="ann", now=NOW)


class TestRevision:
    def test_revision_is_zero_without_a_champion(self, store: Store) -> None:
        """A worker that waits for its first model polls this."""
        assert store.models.revision(STREAM) == (0, 0)

    def test_revision_changes_with_thresholds_and_champion_and_nothing_else(self, store: Store) -> None:
        """A candidate is no reason to reload."""
        version = publish(store)
        first = store.models.revision(STREAM)
        second_version = publish(store)
        assert store.models.revision(STREAM) == first
        store.models.set_thresholds(version.id, [spec("a", 2.5)], source="manual", cause=None, who="ann", now=NOW)
        second = store.models.revision(STREAM)
        store.models.promote(STREAM, second_version.number, who="ann", reason="", now=NOW)
        assert first[0] == second[0] == version.id
        assert second[1] > first[1]
        assert store.models.revision(STREAM)[0] == second_version.id

    def test_revision_walks_no_table_and_no_rows_of_a_version(self, store: Store) -> None:
        """Many workers ask every two seconds, for years: two look-ups in indexes, however long the history is."""
        if store.database.is_sqlite:
            plan = explain(store, "EXPLAIN QUERY PLAN")
            assert "SCAN" not in plan
            assert "uq_model_versions_stream_alias (stream=? AND alias=?)" in plan
            assert "ix_thresholds_model_version_id_id (model_version_id=?)" in plan
            return
        with store.database.write() as connection:  # tiny tables are scanned whatever the indexes; ask what it can do
            connection.execute(sa.text("SET LOCAL enable_seqscan = off"))
            plan = explain(store, "EXPLAIN", connection)
        assert "Seq Scan" not in plan
        assert "uq_model_versions_stream_alias" in plan
        assert "ix_thresholds_model_version_id_id" in plan


def explain(store: Store, how: str, connection: sa.Connection | None = None) -> str:
    """How the database runs the query behind ``revision``."""
    if connection is None:
        with store.database.read() as opened:
            return explain(store, how, opened)
    query = revision_query(STREAM).compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
    return "\n".join(str(row[-1]) for row in connection.exec_driver_sql(f"{how} {query}"))
