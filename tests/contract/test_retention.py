"""What retention deletes, and what it must not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest

from monitor.store import Store
from monitor.store.retention import prune
from monitor.store.tables import (
    anomalies,
    dead_letters,
    incidents,
    job_runs,
    model_versions,
    thresholds,
    verdicts,
    window_stats,
)
from tests.store_builders import MINUTE, NOW, P0, add_model, anomaly, dead_letter, outcome, part, rows

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Periods:
    """One day for everything unless told otherwise."""

    anomalies: timedelta = DAY
    resolved_incidents: timedelta = DAY
    dead_letters: timedelta = DAY
    window_stats: timedelta = DAY
    job_runs: timedelta = DAY


@pytest.fixture
def filled(store: Store) -> Store:
    """Ten anomalies in two incidents ("even", "odd"), ten dead letters, one minute: all of NOW."""
    add_model(store)
    store.pipeline.claim("s", {P0: 0})
    found = [anomaly(number, fingerprint="odd" if number % 2 else "even") for number in range(10)]
    letters = [dead_letter(number) for number in range(10, 20)]
    store.pipeline.write(outcome(part(0, 20, anomalies=found, dead_letters=letters)))
    set_values(store, incidents, updated_at=NOW)
    set_values(store, dead_letters, created_at=NOW)
    return store


def set_values(store: Store, table: Any, *conditions: Any, **values: Any) -> None:
    """Change rows behind the program's back."""
    with store.database.write() as connection:
        connection.execute(table.update().where(*conditions).values(**values))


def resolve(store: Store, fingerprint: str) -> None:
    """Close an incident."""
    set_values(store, incidents, incidents.c.fingerprint == fingerprint, status="resolved")


def judge(store: Store, **subject: int) -> None:
    """A verdict on an anomaly or an incident."""
    row = {"stream": "s", "verdict": "anomaly", "author": "ann", "created_at": NOW, **subject}
    with store.database.write() as connection:
        connection.execute(verdicts.insert(), row)


def pruned(store: Store, *, now: datetime = NOW + 2 * DAY, chunk: int = 3, **periods: timedelta) -> dict[str, int]:
    """Tables that lost rows."""
    found = prune(store, stream="s", retention=Periods(**periods), now=now, chunk=chunk)
    return {table: number for table, number in found.items() if number}


def ids(store: Store, fingerprint: str) -> list[int]:
    """Ids of the anomalies of an incident."""
    incident = next(row["id"] for row in rows(store, incidents) if row["fingerprint"] == fingerprint)
    return [row["id"] for row in rows(store, anomalies) if row["incident_id"] == incident]


def test_prune_deletes_nothing_before_its_time(filled: Store) -> None:
    """Exactly as old as allowed is young enough."""
    resolve(filled, "even")
    assert pruned(filled, now=MINUTE + DAY) == {}


def test_prune_keeps_anomalies_of_unresolved_incidents(filled: Store) -> None:
    """However old: somebody still has to look."""
    resolve(filled, "even")
    for status in ("open", "acknowledged", "snoozed"):
        set_values(filled, incidents, incidents.c.fingerprint == "odd", status=status)
        pruned(filled, now=NOW + 1000 * DAY)
        assert [row["record_offset"] for row in rows(filled, anomalies)] == [1, 3, 5, 7, 9]
        assert [row["fingerprint"] for row in rows(filled, incidents)] == ["odd"]


def test_prune_counts_rows_by_table(filled: Store) -> None:
    """In chunks smaller than the tables, with rows of one instant."""
    resolve(filled, "even")
    assert pruned(filled) == {"anomalies": 5, "incidents": 1, "dead_letters": 10, "window_stats": 1}
    assert pruned(filled) == {}
    assert rows(filled, dead_letters) == rows(filled, window_stats) == []


def test_prune_names_every_table_that_has_a_rule(store: Store) -> None:
    """So that a program may rely on the keys."""
    found = prune(store, stream="s", retention=Periods(), now=NOW)
    assert found == dict.fromkeys(
        ["anomalies", "incidents", "dead_letters", "window_stats", "drift_signals", "job_runs"], 0
    )


def test_prune_keeps_judged_anomalies(filled: Store) -> None:
    """An analyst's work is an example to learn from; the rows around it go."""
    resolve(filled, "even")
    kept = ids(filled, "even")[0]
    judge(filled, anomaly_id=kept)
    pruned(filled, chunk=1)
    assert [row["id"] for row in rows(filled, anomalies) if row["record_offset"] % 2 == 0] == [kept]


def test_prune_lets_anomalies_outlive_their_incident(filled: Store) -> None:
    """Periods are independent; the link is cut."""
    resolve(filled, "even")
    assert pruned(filled, anomalies=30 * DAY)["incidents"] == 1
    assert [row["incident_id"] is None for row in rows(filled, anomalies)] == [True, False] * 5
    assert pruned(filled, now=NOW + 31 * DAY, anomalies=30 * DAY) == {"anomalies": 5}


def test_prune_keeps_a_judged_incident_while_it_has_anomalies(filled: Store) -> None:
    """Its verdict is theirs: the rate of false alarms counts it."""
    resolve(filled, "even")
    judge(filled, incident_id=next(row["id"] for row in rows(filled, incidents) if row["fingerprint"] == "even"))
    assert "incidents" not in pruned(filled, anomalies=30 * DAY)
    assert pruned(filled, now=NOW + 31 * DAY, anomalies=30 * DAY) == {"anomalies": 5, "incidents": 1}


def test_prune_leaves_other_streams_and_running_jobs_alone(filled: Store) -> None:
    """Retention is a stream's own; what runs is not history."""
    filled.pipeline.claim("other", {P0: 0})
    filled.pipeline.write(outcome(part(0, 20, dead_letters=[dead_letter(1)]), stream="other"))
    set_values(filled, dead_letters, created_at=NOW)
    done = filled.jobs.start_run("retrain", "s", holder="a:1", now=NOW)
    filled.jobs.finish_run(done, status="succeeded", detail={}, now=NOW)
    filled.jobs.start_run("retrain", "s", holder="a:1", now=NOW)
    other = filled.jobs.start_run("retrain", "other", holder="a:1", now=NOW)
    filled.jobs.finish_run(other, status="succeeded", detail={}, now=NOW)
    assert pruned(filled)["job_runs"] == 1
    assert [(row["stream"], row["status"]) for row in rows(filled, job_runs)] == [
        ("s", "running"),
        ("other", "succeeded"),
    ]
    assert [row["stream"] for row in rows(filled, dead_letters)] == ["other"]
    assert [row["stream"] for row in rows(filled, window_stats)] == ["other"]


def test_prune_keeps_versions_thresholds_and_verdicts(filled: Store) -> None:
    """Lineage and judgements outlive what they are about."""
    resolve(filled, "even")
    judge(filled, anomaly_id=999)
    pruned(filled, now=NOW + 1000 * DAY)
    assert [len(rows(filled, table)) for table in (model_versions, thresholds, verdicts)] == [1, 1, 1]
