"""What people see of anomalies and incidents."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from monitor.errors import NotFound
from monitor.store import Store
from monitor.store.tables import incidents, verdicts
from tests.store_builders import NOW, P0, P1, add_model, anomaly, outcome, part


@pytest.fixture
def alerts(store: Store) -> Store:
    """Six anomalies in two incidents, a minute apart; ids 1 to 6."""
    add_model(store)
    store.pipeline.claim("s", {P0: 0, P1: 0})
    found = [
        anomaly(
            number,
            detected_at=NOW + timedelta(minutes=number),
            score_ratio=1.0 + number / 10,
            fingerprint="even" if number % 2 == 0 else "odd",
            explanation={"features": [{"feature": number}]},
        )
        for number in range(1, 7)
    ]
    for number, each in enumerate(found):
        store.pipeline.write(outcome(part(number, number + 1, anomalies=[each])))
    return store


def resolve(store: Store, fingerprint: str) -> None:
    """Close an incident."""
    with store.database.write() as connection:
        connection.execute(incidents.update().where(incidents.c.fingerprint == fingerprint).values(status="resolved"))


def say(store: Store, verdict: str, *, anomaly_id: int | None = None, incident_id: int | None = None) -> None:
    """A verdict."""
    row = {"anomaly_id": anomaly_id, "incident_id": incident_id}
    with store.database.write() as connection:
        connection.execute(
            verdicts.insert(), {"stream": "s", **row, "verdict": verdict, "author": "ann", "created_at": NOW}
        )


class TestAnomalies:
    def test_anomalies_are_newest_first_up_to_the_limit(self, alerts: Store) -> None:
        """What ``narrows alerts list`` prints."""
        assert [row.record_offset for row in alerts.alerts.anomalies(limit=3)] == [6, 5, 4]

    def test_anomalies_filters_combine(self, alerts: Store) -> None:
        """Each narrows what the others leave."""
        incident = next(row.id for row in alerts.alerts.incidents() if row.fingerprint == "even")
        since = NOW + timedelta(minutes=3)
        found = alerts.alerts.anomalies("s", incident=incident, since=since, min_ratio=1.5)
        assert [row.record_offset for row in found] == [6]
        assert [row.record_offset for row in alerts.alerts.anomalies(incident=incident)] == [6, 4, 2]
        assert [row.record_offset for row in alerts.alerts.anomalies(since=since)] == [6, 5, 4, 3]
        assert alerts.alerts.anomalies("other") == []

    @pytest.mark.parametrize("by_incident", [False, True])
    def test_anomalies_page_by_the_last_id(self, alerts: Store, by_incident: bool) -> None:
        """Pages neither repeat nor skip a row."""
        incident = alerts.alerts.incidents()[0].id if by_incident else None
        whole = [row.id for row in alerts.alerts.anomalies(incident=incident, limit=99)]
        seen: list[int] = []
        while page := alerts.alerts.anomalies(incident=incident, limit=2, before_id=seen[-1] if seen else None):
            seen += [row.id for row in page]
        assert seen == whole

    def test_anomalies_page_through_equal_times(self, store: Store) -> None:
        """A batch is detected at one instant."""
        add_model(store)
        store.pipeline.claim("s", {P0: 0})
        store.pipeline.write(outcome(part(0, 9, anomalies=[anomaly(number) for number in range(5)])))
        first = store.alerts.anomalies(limit=3)
        second = store.alerts.anomalies(limit=3, before_id=first[-1].id)
        assert [row.record_offset for row in (*first, *second)] == [4, 3, 2, 1, 0]

    def test_anomaly_has_everything(self, alerts: Store) -> None:
        """Enough to explain it without the model."""
        wanted = alerts.alerts.anomalies(limit=1)[0]
        row = alerts.alerts.anomaly(wanted.id)
        assert row == wanted
        assert (row.topic, row.partition, row.record_offset, row.sample_id) == ("t", 0, 6, "s6")
        assert (row.model_version, row.threshold_id, row.severity) == (1, 1, "high")
        assert row.features.tolist() == [1.5, -2.25]
        assert row.features.dtype == np.float32
        assert row.explanation == {"features": [{"feature": 6}]}
        assert row.detected_at == NOW + timedelta(minutes=6)
        assert row.incident_id == alerts.alerts.incidents()[0].id

    def test_anomaly_shows_its_newest_verdict_or_else_its_incidents(self, alerts: Store) -> None:
        """As the view recent_anomalies does."""
        row = alerts.alerts.anomalies(limit=1)[0]
        assert row.verdict is None
        say(alerts, "anomaly", incident_id=row.incident_id)
        assert alerts.alerts.anomaly(row.id).verdict == "anomaly"
        say(alerts, "anomaly", anomaly_id=row.id)
        say(alerts, "new_normal", anomaly_id=row.id)
        assert alerts.alerts.anomaly(row.id).verdict == "new_normal"

    def test_anomaly_says_where_to_look_when_unknown(self, store: Store) -> None:
        """The message is the remedy."""
        with pytest.raises(NotFound, match="narrows alerts list"):
            store.alerts.anomaly(7)


class TestIncidents:
    def test_incidents_are_last_seen_first_with_counts(self, alerts: Store) -> None:
        """Groups of like anomalies."""
        even, odd = alerts.alerts.incidents()
        assert [(row.fingerprint, row.anomaly_count, row.status) for row in (even, odd)] == [
            ("even", 3, "open"),
            ("odd", 3, "open"),
        ]
        assert even.max_score_ratio == pytest.approx(1.6)
        assert (even.first_seen, even.last_seen) == (NOW + timedelta(seconds=2), NOW + timedelta(seconds=6))
        assert alerts.alerts.incident(even.id) == even

    def test_incidents_leave_resolved_ones_out_unless_asked(self, alerts: Store) -> None:
        """What is done needs no look."""
        resolve(alerts, "even")
        assert [row.fingerprint for row in alerts.alerts.incidents()] == ["odd"]
        assert [row.fingerprint for row in alerts.alerts.incidents("s", status=["resolved"])] == ["even"]
        assert alerts.alerts.incidents("other") == []
        assert len(alerts.alerts.incidents(status=("open", "resolved"), limit=1)) == 1

    def test_incident_says_where_to_look_when_unknown(self, store: Store) -> None:
        """The message is the remedy."""
        with pytest.raises(NotFound, match="--incidents"):
            store.alerts.incident(7)
