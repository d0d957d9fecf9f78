"""New champions and thresholds, taken over between two batches; the old ones stay when the new do not verify."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from models.api import Scorer
from monitor import metrics as m
from monitor.backoff import worth_saying
from monitor.champion import Champion
from monitor.errors import NoChampion, RegistryError, Unavailable

if TYPE_CHECKING:
    from monitor.ports import Metrics
    from monitor.settings_streams import StreamSettings
    from monitor.store.rows import ModelVersion, Threshold

logger = logging.getLogger(__name__)


class ChampionStore(Protocol):
    """What the reloader asks of the store."""

    def revision(self, stream: str) -> tuple[int, int]:
        """Row of the champion and of its newest threshold, 0 for none; cheap."""
        ...

    def champion(self, stream: str) -> ModelVersion | None:
        """The champion's version."""
        ...

    def thresholds(self, model_version_id: int) -> Sequence[Threshold]:
        """Current threshold of each class."""
        ...


class HotReloader:
    """Keeps the champion of one stream current.

    ``refresh`` looks once and may block on the database and the disk; ``start`` does it on a thread of its own, so that
    the polling thread only ever reads ``current``.

    Args:
        stream: Settings of the stream.
        store: Where versions and thresholds are.
        load: Loads and verifies an artifact; raises ``RegistryError``.
        metrics: Measurements.
    """

    def __init__(
        self,
        *,
        stream: StreamSettings,
        store: ChampionStore,
        load: Callable[[str, str], Scorer],
        metrics: Metrics,
    ) -> None:
        self._stream = stream
        self._store = store
        self._load = load
        self._metrics = metrics
        self._champion: Champion | None = None
        self._revision: tuple[int, int] | None = None
        self._failures = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def current(self) -> Champion:
        """The champion that judges from now on.

        Raises:
            NoChampion: ``refresh`` has not found one yet.
        """
        if self._champion is None:
            raise NoChampion(_no_champion(self._stream.name))
        return self._champion

    def refresh(self) -> bool:
        """Look once; True when something new was taken over.

        Raises:
            NoChampion: The stream has none, and none was loaded before.
            RegistryError: The new one does not verify, and there is no old one to go on with.
            StoreUnavailable: The database is away.
        """
        revision = self._store.revision(self._stream.name)
        if revision == self._revision:
            return False
        try:
            self._champion = self._fetch()
        except RegistryError as error:
            self._refuse(error)
            return False
        self._revision, self._failures = revision, 0
        self._metrics.increment(m.RELOADS, stream=self._stream.name, result="taken")
        self._metrics.set(m.MODEL_VERSION, self._champion.number, stream=self._stream.name)
        logger.info(
            "%s: version %d judges, with thresholds up to row %d",
            self._stream.name, self._champion.number, revision[1],
            extra={"action": "champion_loaded"},
        )  # fmt: skip
        return True

    def start(self, *, interval_s: float) -> None:
        """Refresh every ``interval_s`` on a thread of its own until ``stop``."""
        self._thread = threading.Thread(target=self._loop, args=(interval_s,), name="hot-reload", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; safe without ``start``."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _loop(self, interval_s: float) -> None:
        while not self._stop.wait(interval_s):
            try:
                self.refresh()
            except Unavailable as error:  # the worker meets the same outage and tells it; nothing is lost here
                logger.debug("Reload postponed: %s", error, extra={"action": "reload_postponed"})
            except NoChampion as error:
                logger.warning("%s", error, extra={"action": "no_champion"})

    def _fetch(self) -> Champion:
        version = self._store.champion(self._stream.name)
        if version is None:
            raise NoChampion(_no_champion(self._stream.name))
        old = self._champion
        same = old is not None and old.model_version_id == version.id
        scorer = old.scorer if same and old is not None else self._load(version.artifact_uri, version.sha256)
        rows = self._store.thresholds(version.id)
        self._verify(scorer, rows, number=version.number)
        return Champion(
            model_version_id=version.id,
            number=version.number,
            scorer=scorer,
            threshold_ids=tuple(row.id for row in rows),
            specs=tuple(row.spec() for row in rows),
        )

    def _verify(self, scorer: Scorer, rows: Sequence[Threshold], *, number: int) -> None:
        """A version that does not fit the stream must not judge it."""
        wanted, card = self._stream.record_schema.dimension, scorer.card
        if card.dimension != wanted:
            raise RegistryError(
                f"Version {number} scores {card.dimension} features, but the schema of stream {self._stream.name!r} "
                f"has {wanted}; train a version on the new schema."
            )
        if tuple(row.class_label for row in rows) != tuple(card.classes):
            raise RegistryError(
                f"Version {number} has {len(card.classes)} classes, but thresholds for {len(rows)} of them are stored; "
                "run: narrows jobs run recalibrate, or train again."
            )

    def _refuse(self, error: RegistryError) -> None:
        self._metrics.increment(m.RELOADS, stream=self._stream.name, result="refused")
        if self._champion is None:
            raise error
        self._failures += 1
        if worth_saying(self._failures):
            logger.error(
                "%s: the new version is refused and version %d goes on: %s",
                self._stream.name, self._champion.number, error, extra={"action": "champion_refused"},
            )  # fmt: skip


def _no_champion(stream: str) -> str:
    return f"Stream {stream!r} has no champion yet. Train one: narrows train FILE --stream {stream}"
