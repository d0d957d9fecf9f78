"""Job ``prune``: what is older than retention allows, samples beyond their bounds, artifacts that no version names."""

from __future__ import annotations

from monitor.jobs.base import JobOutcome, JobScope


def prune(scope: JobScope) -> JobOutcome:
    """Delete in small transactions; cut short, it simply leaves more for the next run.

    Raises:
        StoreUnavailable: The database is away.
    """
    from monitor.store.retention import prune as delete_old  # noqa: PLC0415 - brings SQLAlchemy along

    store, stream = scope.ports.store, scope.stream
    rows = delete_old(store, stream=stream.name, retention=stream.retention, now=scope.now, check=scope.check)
    scope.check()
    samples = store.samples.trim(
        stream.name, recent=stream.samples.recent, reservoir_per_class=stream.samples.reservoir_per_class
    )
    scope.check()
    kept = {version.artifact_uri for version in store.models.versions(stream.name)}
    artifacts = scope.ports.registry.prune_orphans(stream.name, keep=kept, now=scope.now)
    deleted = {table: count for table, count in {**rows, "samples": samples}.items() if count}
    total = sum(deleted.values())
    message = f"{total} rows and {len(artifacts)} artifacts deleted" if total or artifacts else "nothing to delete"
    return JobOutcome("succeeded", message, {"rows": deleted, "artifacts": list(artifacts)})
