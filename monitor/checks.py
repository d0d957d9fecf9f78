"""Does everything that is configured work? Findings with what to do; nothing is changed and no offset moves."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from monitor.decoding import DecodedSlice, Decoder
from monitor.errors import NarrowsError, NotFound, Unavailable
from monitor.kafka_io import KafkaSource
from monitor.records import PartitionSlice, TopicPartition
from monitor.registry import Registry
from monitor.settings import mask_url
from monitor.store import open_store
from monitor.wiring import group_id

if TYPE_CHECKING:
    from monitor.settings import Settings
    from monitor.settings_streams import StreamSettings
    from monitor.store import Store

#: Newest records of each partition that are held against the schema.
_SAMPLE: Final = 20
#: Joining a group takes about 3 s on a broker with its default settings.
_PATIENCE_S: Final = 8.0


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check.

    Attributes:
        check: What was looked at, such as ``store``, ``broker``, ``topic`` or ``records``.
        stream: Whose, for the checks of a stream.
        status: ``"ok"``, ``"warn"`` (works, or will, but look at it) or ``"fail"``.
        detail: What was found.
        remedy: What to do about it.
    """

    check: str
    stream: str | None
    status: str
    detail: str
    remedy: str | None = None


def check_all(settings: Settings, streams: tuple[StreamSettings, ...]) -> Iterator[Finding]:
    """Check everything; broker and database at the same time, because either may take its whole time-out."""
    yield _config(settings, streams)
    # The client library tells of each attempt to connect; the finding says it once.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    with ThreadPoolExecutor(2) as pool:
        kafka = pool.submit(lambda: list(_kafka(settings, streams)))
        yield _registry(settings)
        yield from _store_and_champions(settings, streams)
        yield from kafka.result()


def _config(settings: Settings, streams: tuple[StreamSettings, ...]) -> Finding:
    where = settings.file or "environment"
    if not streams:
        return Finding("config", None, "warn", f"{where}: no stream", "Add [[streams]], or write a file: narrows init")
    return Finding("config", None, "ok", f"{where}: {', '.join(stream.name for stream in streams)}")


def _registry(settings: Settings) -> Finding:
    root = Registry(settings.registry.uri).root
    nearest = next(path for path in (root, *root.parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        remedy = "Let the user of this process write there, or set registry.uri. (Workers only need to read.)"
        return Finding("registry", None, "warn", f"{nearest} is not a folder that can be written", remedy)
    return Finding("registry", None, "ok", str(root) if root == nearest else f"{root}, made by the first training")


def _store_and_champions(settings: Settings, streams: tuple[StreamSettings, ...]) -> Iterator[Finding]:
    shown = mask_url(settings.store.url)
    try:
        store = open_store(settings.store.url, create=False)
    except NotFound:
        yield Finding("store", None, "ok", f"{shown}, made by the first command that needs it")
        for stream in streams:
            yield _no_champion(stream)
        return
    except NarrowsError as error:
        remedy = "Start the database or correct store.url; for an older schema run: narrows db upgrade."
        yield Finding("store", None, "fail", f"{shown}: {error}", remedy)
        return
    with closing(store):
        yield Finding("store", None, "ok", f"{shown}, schema {store.admin.current()}")
        for stream in streams:
            yield _champion(settings, stream, store)


def _no_champion(stream: StreamSettings) -> Finding:
    remedy = f"Train one: narrows train FILE --stream {stream.name}"
    return Finding("champion", stream.name, "warn", "none yet, so the worker ends with exit status 1", remedy)


def _champion(settings: Settings, stream: StreamSettings, store: Store) -> Finding:
    try:
        champion = store.models.champion(stream.name)
        if champion is None:
            return _no_champion(stream)
        card = Registry(settings.registry.uri).load(champion.artifact_uri, champion.sha256).card
    except NarrowsError as error:
        remedy = f"Then check again; the versions that there are: narrows models list --stream {stream.name}"
        return Finding("champion", stream.name, "fail", str(error), remedy)
    wanted = stream.record_schema.dimension
    if card.dimension != wanted:
        detail = f"version {champion.number} scores {card.dimension} features, schema.dimension is {wanted}"
        return Finding(
            "champion", stream.name, "fail", detail, "Train a version on the new schema, or mend the schema."
        )
    return Finding("champion", stream.name, "ok", f"version {champion.number}, {len(card.classes)} classes, verified")


def _kafka(settings: Settings, streams: tuple[StreamSettings, ...]) -> Iterator[Finding]:
    servers = ", ".join(settings.kafka.bootstrap_servers)
    for number, stream in enumerate(streams):
        # A group of its own, so that no worker loses a partition to a check.
        group = f"{group_id(settings, stream)}.check"
        try:
            source = KafkaSource(settings.kafka, topic=stream.topic, group=group, monotonic=time.monotonic)
        except NarrowsError as error:
            remedy = "Start the broker, or correct kafka.bootstrap_servers and kafka.security."
            yield Finding("broker", None, "fail", str(error), remedy)
            return
        with closing(source):
            if not number:
                yield Finding("broker", None, "ok", servers)
            try:
                yield from _topic(source, stream)
            except NarrowsError as error:
                yield Finding(
                    "topic", stream.name, "fail", str(error), "Check the ACLs of topic and group, then again."
                )


def _topic(source: KafkaSource, stream: StreamSettings) -> Iterator[Finding]:
    partitions = source.partitions()
    if not partitions:
        remedy = "Create it, or correct streams.*.topic. The worker waits for it."
        yield Finding("topic", stream.name, "warn", f"{stream.topic} does not exist yet", remedy)
        return
    first, end = source.beginning_offsets(partitions), source.end_offsets(partitions)
    n_records = sum(end[partition] - first[partition] for partition in partitions)
    yield Finding("topic", stream.name, "ok", f"{stream.topic}: {len(partitions)} partitions, {n_records:,} records")
    if not n_records:
        yield Finding("records", stream.name, "warn", "none to hold against the schema yet", "Send some, check again.")
        return
    starts = {partition: max(first[partition], end[partition] - _SAMPLE) for partition in partitions}
    yield _records(_read(source, starts, end), stream)


def _read(
    source: KafkaSource, starts: dict[TopicPartition, int], end: dict[TopicPartition, int]
) -> list[PartitionSlice]:
    """Newest records of each partition, as far as they come in time."""
    slices: list[PartitionSlice] = []
    waiting, positioned = {key for key in starts if starts[key] < end[key]}, set[TopicPartition]()
    give_up_at = time.monotonic() + _PATIENCE_S
    while waiting and time.monotonic() < give_up_at:
        try:
            polled = source.poll(timeout_s=0.5, max_records=_SAMPLE * len(starts))
        except Unavailable:  # it answered a moment ago; "none came in time" is what is left to say if it stays away
            time.sleep(0.1)
            continue
        for piece in polled.slices:
            if piece.partition in positioned and piece.records:
                slices.append(piece)
                if piece.next_offset >= end[piece.partition]:
                    waiting.discard(piece.partition)
        for partition in polled.assigned - positioned:
            source.seek(partition, starts.get(partition, 0))
            positioned.add(partition)
    return slices


def _records(slices: list[PartitionSlice], stream: StreamSettings) -> Finding:
    decoder = Decoder(stream.record_schema)
    decoded: list[DecodedSlice] = [decoder.decode(piece) for piece in slices]
    valid = sum(len(piece.records) for piece in decoded)
    rejected = [each for piece in decoded for each in piece.rejected]
    if not rejected:
        if not valid:
            return Finding(
                "records", stream.name, "warn", "none came in time", "Check again; see kafka.security and ACLs."
            )
        return Finding("records", stream.name, "ok", f"the newest {valid} fit the schema")
    detail = (
        f"{len(rejected)} of {valid + len(rejected)} do not fit the schema ({rejected[0].reason}): {rejected[0].detail}"
    )
    remedy = f"Mend streams.{stream.name}.schema or the producer; as it is, such records become dead letters."
    return Finding("records", stream.name, "warn" if valid else "fail", detail, remedy)
