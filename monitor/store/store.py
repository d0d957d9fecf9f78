"""One open store: all that the program keeps, by subject. Nothing is queried here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from monitor.errors import NotFound, StoreUnavailable
from monitor.store.admin import StoreAdmin
from monitor.store.alert_store import AlertStore
from monitor.store.dead_letter_store import DeadLetterStore
from monitor.store.engine import Database
from monitor.store.job_store import JobStore
from monitor.store.model_store import ModelStore
from monitor.store.pipeline_store import SqlPipelineStore
from monitor.store.sample_store import SampleStore
from monitor.store.stream_store import StreamStore


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Store:
    """A database by subject. Thread-safe; every method of its attributes blocks and may raise ``StoreUnavailable``.

    Attributes:
        admin: Schema revisions.
        pipeline: Progress and results of the workers.
        models: Versions and thresholds.
        jobs: Leases and runs.
        streams: What is configured.
        samples: Records kept for calibration and training.
        alerts: Anomalies and incidents, for people.
        dead_letters: Records that could not be scored, for people.
    """

    def __init__(self, database: Database, *, now: Callable[[], datetime]) -> None:
        self.database = database
        self.admin = StoreAdmin(database)
        self.pipeline = SqlPipelineStore(database, now=now)
        self.models = ModelStore(database)
        self.jobs = JobStore(database)
        self.streams = StreamStore(database)
        self.samples = SampleStore(database)
        self.alerts = AlertStore(database)
        self.dead_letters = DeadLetterStore(database)

    def close(self) -> None:
        """Close all connections; safe to call twice."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def open_store(url: str, *, create: bool | None = None, now: Callable[[], datetime] = _utc_now) -> Store:
    """Open the store and make sure that its schema is the one that this program needs.

    Args:
        url: ``sqlite:///PATH`` or ``postgresql+psycopg://USER:PASSWORD@HOST/DATABASE``.
        create: Make and migrate the tables. None: on SQLite only, with the folder of the file; a PostgreSQL database
            is changed only when somebody asks for it.
        now: Processing time.

    Raises:
        ConfigError: The URL is of another kind.
        StoreUnavailable: No answer.
        SchemaBehind: The schema is older, and ``create`` does not allow to change it.
        StoreError: The schema is newer than the program.
        NotFound: ``create`` is false and there is no such SQLite file.
    """
    database = Database(url)
    store = Store(database, now=now)
    try:
        _prepare(store, create=database.is_sqlite if create is None else create)
    except BaseException:
        store.close()
        raise
    return store


def _prepare(store: Store, *, create: bool) -> None:
    path = store.database.path
    if path is not None and not path.exists():
        if not create:
            raise NotFound(f"There is no database {path}. Create it with: narrows db upgrade.")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"The folder {path.parent} of the database cannot be made: {error}.") from error
    if create and store.admin.current() != store.admin.head():
        store.admin.upgrade()
    store.admin.check()
