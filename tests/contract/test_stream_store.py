"""Which streams are known, and what their configuration was."""

from __future__ import annotations

from datetime import timedelta

from monitor.store import Store
from monitor.store.tables import audit_log
from tests.store_builders import NOW, rows


def test_sync_adds_a_stream_once(store: Store) -> None:
    """Every start of a worker calls it."""
    assert store.streams.sync("gas", "t", "f1", now=NOW)
    assert not store.streams.sync("gas", "t", "f1", now=NOW + timedelta(days=1))
    (stream,) = store.streams.all()
    assert (stream.name, stream.topic, stream.config_fingerprint) == ("gas", "t", "f1")
    assert stream.created_at == stream.updated_at == NOW


def test_sync_records_a_change_in_the_audit_log(store: Store) -> None:
    """A changed configuration can be dated afterwards."""
    later = NOW + timedelta(days=1)
    store.streams.sync("gas", "t", "f1", now=NOW)
    assert store.streams.sync("gas", "u", "f2", now=later)
    (stream,) = store.streams.all()
    assert (stream.topic, stream.created_at, stream.updated_at) == ("u", NOW, later)
    added, changed = rows(store, audit_log)
    assert (added["what"], added["before"]) == ("stream.add", None)
    assert changed["what"] == "stream.change"
    assert changed["before"] == {"topic": "t", "config_fingerprint": "f1"}
    assert changed["after"] == {"topic": "u", "config_fingerprint": "f2"}


def test_all_is_in_order_of_name(store: Store) -> None:
    """Also those that are no longer configured."""
    for name in ("b", "a"):
        store.streams.sync(name, "t", "f", now=NOW)
    assert [stream.name for stream in store.streams.all()] == ["a", "b"]
