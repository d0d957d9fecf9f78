"""Hot reload: what is new and verifies is taken over; what does not is refused, and the old one goes on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from models.api import Scorer
from monitor.errors import NoChampion, RegistryError, StoreUnavailable
from monitor.hot_reload import HotReloader
from monitor.store import Store, open_store
from tests.builders import LineScorer, RecordedMetrics, publish_champion, schema, specs, stream
from tests.deployment import eventually

NOW = datetime(2023, 11, 2, tzinfo=UTC)


class Setting:
    """A store, and a registry that hands out line scorers unless ``broken``."""

    def __init__(self, folder: Path) -> None:
        self.store: Store = open_store(f"sqlite:///{folder / 'narrows.db'}")
        self.metrics = RecordedMetrics()
        self.loads: list[str] = []
        self.broken = False
        self.reloader = HotReloader(stream=stream(), store=self.store.models, load=self._load, metrics=self.metrics)

    def _load(self, uri: str, sha256: str) -> Scorer:
        self.loads.append(uri)
        if self.broken:
            raise RegistryError(f"{uri} was changed")
        return LineScorer()

    def publish(self, uri: str, *, classes: tuple[str, ...] = ("low", "high")) -> int:
        """One more version; its number."""
        thresholds = [replace(specs()[0], class_label=label) for label in classes]
        return self.store.models.publish(
            stream="s", artifact_uri=uri, sha256="0" * 64, classes=classes, n_train=1, n_calibration=1, metrics={},
            thresholds=thresholds, now=NOW, who="test",
        ).number  # fmt: skip

    def promote(self, number: int) -> None:
        """Make it champion."""
        self.store.models.promote("s", number, who="test", reason="test", now=NOW)


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    """An empty store."""
    found = Setting(tmp_path)
    yield found
    found.store.close()


def test_refresh_names_the_command_when_there_is_no_champion(setting: Setting) -> None:
    """A worker cannot score with nothing."""
    with pytest.raises(NoChampion, match="narrows train FILE --stream s"):
        setting.reloader.refresh()
    with pytest.raises(NoChampion):
        _ = setting.reloader.current


def test_refresh_takes_over_once(setting: Setting) -> None:
    """The same revision is not loaded again."""
    publish_champion(setting.store)
    assert setting.reloader.refresh()
    assert not setting.reloader.refresh()
    assert setting.loads == ["s/none"]
    assert setting.reloader.current.number == 1
    assert setting.metrics.gauges["narrows_model_version", "s"] == 1


def test_refresh_takes_new_thresholds_without_loading_the_model_again(setting: Setting) -> None:
    """A recalibration swaps numbers, not networks."""
    publish_champion(setting.store)
    setting.reloader.refresh()
    old = setting.reloader.current
    setting.store.models.set_thresholds(
        old.model_version_id, [replace(specs()[0], value=9.0)], source="manual", cause="test", who="test", now=NOW
    )
    assert setting.reloader.refresh()
    new = setting.reloader.current
    assert [spec.value for spec in new.specs] == [9.0, 2.0]
    assert new.threshold_ids[1] == old.threshold_ids[1] != new.threshold_ids[0]
    assert new.scorer is old.scorer
    assert setting.loads == ["s/none"]


def test_refresh_refuses_what_does_not_verify_and_tries_again(
    setting: Setting, caplog: pytest.LogCaptureFixture
) -> None:
    """The old champion goes on; once the artifact is whole again it is taken over."""
    publish_champion(setting.store)
    setting.reloader.refresh()
    setting.promote(setting.publish("s/second"))
    setting.broken = True
    with caplog.at_level(logging.ERROR):
        assert [setting.reloader.refresh() for _ in range(5)] == [False] * 5
    assert setting.reloader.current.number == 1
    assert len(caplog.records) == 3  # tries 1, 2 and 4: not every two seconds for ever
    assert setting.metrics.counted["narrows_reloads_total", "s", "refused"] == 5
    setting.broken = False
    assert setting.reloader.refresh()
    assert setting.reloader.current.number == 2


def test_refresh_raises_when_the_first_does_not_verify(setting: Setting) -> None:
    """There is no old one to go on with."""
    publish_champion(setting.store)
    setting.broken = True
    with pytest.raises(RegistryError, match="was changed"):
        setting.reloader.refresh()


def test_refresh_refuses_a_version_for_another_schema(setting: Setting) -> None:
    """Dimension and classes must fit."""
    publish_champion(setting.store)
    wide = stream(schema=schema(dimension=3).model_dump())
    reloader = HotReloader(stream=wide, store=setting.store.models, load=setting._load, metrics=setting.metrics)
    with pytest.raises(RegistryError, match="scores 2 features, but the schema of stream 's' has 3"):
        reloader.refresh()


def test_refresh_refuses_thresholds_of_other_classes(setting: Setting) -> None:
    """A class without a threshold would be judged by another's."""
    setting.publish("s/odd", classes=("low",))
    with pytest.raises(RegistryError, match="has 2 classes, but thresholds for 1"):
        setting.reloader.refresh()


def test_thread_takes_over_by_itself_and_ends(setting: Setting) -> None:
    """The polling thread never waits for it."""
    publish_champion(setting.store)
    setting.reloader.refresh()
    setting.reloader.start(interval_s=0.01)
    setting.promote(setting.publish("s/second"))
    eventually(lambda: setting.reloader.current.number == 2, timeout_s=10)
    setting.reloader.stop()
    assert "hot-reload" not in {thread.name for thread in threading.enumerate()}


def test_thread_survives_an_outage_of_the_store(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on looking when the database is back."""
    publish_champion(setting.store)
    setting.reloader.refresh()
    down = threading.Event()
    down.set()
    asked = []
    real = setting.store.models.revision

    def revision(name: str) -> tuple[int, int]:
        asked.append(name)
        if down.is_set():
            raise StoreUnavailable
        return real(name)

    monkeypatch.setattr(setting.store.models, "revision", revision)
    setting.reloader.start(interval_s=0.01)
    eventually(lambda: len(asked) > 3, timeout_s=10)
    setting.promote(setting.publish("s/second"))
    down.clear()
    eventually(lambda: setting.reloader.current.number == 2, timeout_s=10)
    setting.reloader.stop()
