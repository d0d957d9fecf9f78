"""Model versions: published, promoted, rolled back, rejected; and their thresholds. Not the artifacts themselves.

Every change is one transaction that begins by locking the stream's versions, so two changes of one stream happen one
after the other, and ends with an entry in the audit log, from which rollback reads who was champion before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import exc
from sqlalchemy.engine import Connection

from models.api import ThresholdSpec
from monitor.errors import StoreError
from monitor.store import audit, threshold_rows, version_rows
from monitor.store.job_store import check_lease
from monitor.store.model_queries import ModelQueries
from monitor.store.rows import Lease, ModelVersion, Threshold

T = TypeVar("T")

logger = logging.getLogger(__name__)

#: Attempts of a publication whose number another one took first; only a stream's very first versions can clash.
_MAX_ATTEMPTS = 5


class ModelStore(ModelQueries):
    """Reads, and changes. Blocking; may be called from any thread; raises ``StoreUnavailable`` (retry)."""

    def publish(  # noqa: PLR0913 - a row has as many values
        self,
        *,
        stream: str,
        artifact_uri: str,
        sha256: str,
        classes: Sequence[str],
        n_train: int,
        n_calibration: int,
        metrics: Mapping[str, Any],
        thresholds: Sequence[ThresholdSpec],
        now: datetime,
        who: str,
        parent_id: int | None = None,
        trained_from: datetime | None = None,
        trained_to: datetime | None = None,
        lease: Lease | None = None,
        first_is_champion: bool = True,
    ) -> ModelVersion:
        """Add a version with its first thresholds, under the next free number of its stream.

        The first version becomes champion at once (unless ``first_is_champion`` is false); a later one becomes the
        candidate, and an older candidate retires.

        Raises:
            LeaseLost: ``lease`` is held by another now; nothing was written.
            NotFound: A threshold names an unknown class.
            StoreError: The row cannot be stored, for example because ``parent_id`` does not exist.
        """
        values = {
            "stream": stream,
            "artifact_uri": artifact_uri,
            "sha256": sha256,
            "parent_id": parent_id,
            "classes": list(classes),
            "n_train": n_train,
            "n_calibration": n_calibration,
            "trained_from": trained_from,
            "trained_to": trained_to,
            "metrics": dict(metrics),
            "created_at": now,
        }

        def work(connection: Connection) -> ModelVersion:
            check_lease(connection, lease)
            before = version_rows.lock(connection, stream)
            version = version_rows.add(connection, values, first_is_champion=first_is_champion)
            threshold_rows.add(connection, version, thresholds, source="training", cause=None, now=now)
            after = {**version_rows.aliases(connection, stream), "version": version.number}
            audit.append(connection, who=who, what="model.publish", stream=stream, before=before, after=after, now=now)
            return version

        return self._until_unique(work)

    def promote(
        self,
        stream: str,
        number: int,
        *,
        who: str,
        reason: str,
        now: datetime,
        lease: Lease | None = None,
        force: bool = False,
    ) -> ModelVersion:
        """Make a version champion; the old champion retires. Harmless, and logged, when it is champion already.

        Raises:
            NotFound: No such number.
            StoreError: The version was rejected and ``force`` is not set.
            LeaseLost: ``lease`` is held by another now; nothing was written.
        """

        def work(connection: Connection) -> ModelVersion:
            check_lease(connection, lease)
            before = version_rows.lock(connection, stream)
            version = version_rows.numbered(connection, stream, number)
            if version.alias == "champion":
                logger.info("Version %d of %s is champion already", number, stream, extra={"action": "promote_no_op"})
                return version
            if version.status == "rejected" and not force:
                msg = f"Version {number} of {stream} was rejected ({version.note}); promote it with force to insist."
                raise StoreError(msg)
            version_rows.crown(connection, version, note=reason, retired_note=None)
            self._record(connection, "model.promote", stream, who=who, reason=reason, before=before, now=now)
            return version_rows.by_id(connection, version.id)

        return self._database.transact(work)

    def rollback(
        self, stream: str, *, who: str, reason: str, now: datetime, lease: Lease | None = None
    ) -> ModelVersion:
        """Make the version champion again that was so before this one; called again, walks further back.

        Its thresholds are those that were in force when it retired. Versions rejected since are passed over.

        Raises:
            NotFound: No champion, or none before it.
            LeaseLost: ``lease`` is held by another now; nothing was written.
        """

        def work(connection: Connection) -> ModelVersion:
            check_lease(connection, lease)
            before = version_rows.lock(connection, stream)
            version = version_rows.before_champion(connection, stream)
            version_rows.crown(connection, version, note=None, retired_note=f"rolled back: {reason}")
            self._record(connection, "model.rollback", stream, who=who, reason=reason, before=before, now=now)
            return version_rows.by_id(connection, version.id)

        return self._database.transact(work)

    def reject(
        self, stream: str, number: int, *, reason: str, who: str, now: datetime, lease: Lease | None = None
    ) -> ModelVersion:
        """Say no to a version: it loses its alias and is not promoted or rolled back to by itself.

        Raises:
            NotFound: No such number.
            StoreError: It is the champion; roll back first.
            LeaseLost: ``lease`` is held by another now; nothing was written.
        """

        def work(connection: Connection) -> ModelVersion:
            check_lease(connection, lease)
            before = {**version_rows.lock(connection, stream), "version": number}
            version = version_rows.numbered(connection, stream, number)
            if version.alias == "champion":
                msg = f"Version {number} of {stream} is the champion. First: narrows models rollback --stream {stream}"
                raise StoreError(msg)
            version_rows.change(connection, version, alias=None, status="rejected", note=reason)
            self._record(connection, "model.reject", stream, who=who, reason=reason, before=before, now=now)
            return version_rows.by_id(connection, version.id)

        return self._database.transact(work)

    def set_thresholds(
        self,
        model_version_id: int,
        specs: Sequence[ThresholdSpec],
        *,
        source: str,
        cause: str | None,
        who: str,
        now: datetime,
        lease: Lease | None = None,
    ) -> list[Threshold]:
        """Add thresholds that hold from ``now``; older rows stay as they are.

        A ``"manual"`` spec without calibration scores keeps those of its class.

        Returns:
            All current thresholds of the version.

        Raises:
            NotFound: No such version, or it does not know a class.
            LeaseLost: ``lease`` is held by another now; nothing was written.
        """

        def work(connection: Connection) -> list[Threshold]:
            check_lease(connection, lease)
            version = version_rows.by_id(connection, model_version_id)
            version_rows.lock(connection, version.stream)
            old = threshold_rows.current(connection, version)
            filled = threshold_rows.with_scores_of(specs, old) if source == "manual" else specs
            threshold_rows.add(connection, version, filled, source=source, cause=cause, now=now)
            new = threshold_rows.current(connection, version)
            audit.append(
                connection,
                who=who,
                what="thresholds.set",
                stream=version.stream,
                before=threshold_rows.values_by_class(old),
                after=threshold_rows.values_by_class(new),
                reason=cause,
                now=now,
            )
            return new

        return self._database.transact(work)

    def _record(
        self,
        connection: Connection,
        what: str,
        stream: str,
        *,
        who: str,
        reason: str,
        before: Mapping[str, Any],
        now: datetime,
    ) -> None:
        after = version_rows.aliases(connection, stream)
        audit.append(connection, who=who, what=what, stream=stream, before=before, after=after, reason=reason, now=now)

    def _until_unique(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` again while another transaction has just taken its number."""
        for _attempt in range(_MAX_ATTEMPTS):
            try:
                return self._database.transact(work)
            except exc.IntegrityError as error:
                clash = error
        msg = f"The version cannot be stored: {clash.orig}"
        raise StoreError(msg) from clash
