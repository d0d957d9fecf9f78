"""The record source on kafka-python; the only importer of ``kafka``. No decision is taken here.

kafka-python runs rebalance listeners on its IO thread, where nothing may block: the listener only notes which
partitions changed hands, and the poll after tells. Positions are not trusted to the client: ``auto_offset_reset`` is
``"none"``, so that a position the broker lacks is an error to handle and never a silent jump.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from kafka import ConsumerRebalanceListener, KafkaConsumer
from kafka import TopicPartition as KafkaPartition
from kafka.errors import (
    AuthorizationError,
    IllegalStateError,
    KafkaConfigurationError,
    KafkaError,
    LogTruncationError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    SaslAuthenticationFailedError,
    UnsupportedCodecError,
    UnsupportedVersionError,
)
from kafka.structs import OffsetAndMetadata

from monitor.errors import BrokerUnavailable, ConfigError
from monitor.records import PartitionSlice, Polled, TopicPartition
from monitor.settings import KafkaSettings

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: Longest wait for one answer of the broker outside of polling.
REQUEST_TIMEOUT_S = 10.0
#: Longest wait for the first broker to answer; the stop signal is not heard meanwhile.
BOOTSTRAP_TIMEOUT_S = 4.0
#: While no records come, the broker is asked this often whether it is there: kafka-python itself reconnects silently.
PROBE_INTERVAL_S = 10.0
#: A rebalance may wait this long for a member that is busy writing; the compare-and-set protects beyond it.
_MAX_POLL_INTERVAL_MS = 300_000
#: Errors that no waiting mends.
_FATAL = (KafkaConfigurationError, UnsupportedVersionError, UnsupportedCodecError)


def client_options(settings: KafkaSettings) -> dict[str, Any]:
    """Options that every kafka-python client of ours shares: addresses, TLS and SASL."""
    security = settings.security
    options: dict[str, Any] = {
        "bootstrap_servers": list(settings.bootstrap_servers),
        "client_id": "narrows",
        "security_protocol": security.protocol,
        "request_timeout_ms": int(REQUEST_TIMEOUT_S * 1000),
        "bootstrap_timeout_ms": int(BOOTSTRAP_TIMEOUT_S * 1000),
    }
    if security.protocol.endswith("SSL"):
        options |= {
            "ssl_cafile": _path(security.ca_file),
            "ssl_certfile": _path(security.cert_file),
            "ssl_keyfile": _path(security.key_file),
            "ssl_password": security.key_password.get_secret_value() if security.key_password else None,
            "ssl_check_hostname": security.check_hostname,
        }
    if security.protocol.startswith("SASL"):
        options |= {
            "sasl_mechanism": security.sasl_mechanism,
            "sasl_plain_username": security.sasl_username,
            "sasl_plain_password": security.sasl_password.get_secret_value() if security.sasl_password else None,
        }
    return options


class KafkaSource:
    """Records of one topic, shared with the other members of the consumer group.

    Args:
        settings: The ``[kafka]`` table.
        topic: Topic to read; it need not exist yet.
        group: Consumer group.
        monotonic: Seconds that never jump back, for the probe.

    Raises:
        BrokerUnavailable: No broker answered.
        ConfigError: The settings cannot work (bad certificate, unknown mechanism).
    """

    def __init__(self, settings: KafkaSettings, *, topic: str, group: str, monotonic: Callable[[], float]) -> None:
        self._topic = topic
        self._monotonic = monotonic
        self._notes = _Notes()
        self._heard_at = monotonic()
        self._servers = ", ".join(settings.bootstrap_servers)
        with self._translated():
            self._consumer = KafkaConsumer(
                **client_options(settings),
                group_id=group,
                enable_auto_commit=False,
                auto_offset_reset="none",
                isolation_level="read_committed",
                allow_auto_create_topics=False,
                max_partition_fetch_bytes=int(settings.max_partition_fetch_bytes),
                session_timeout_ms=int(settings.session_timeout_s * 1000),
                heartbeat_interval_ms=max(100, int(settings.session_timeout_s * 1000 / 10)),
                max_poll_interval_ms=_MAX_POLL_INTERVAL_MS,
                metadata_max_age_ms=30_000,
                metrics_enabled=False,
            )
            self._consumer.subscribe([topic], listener=self._notes)

    def poll(self, *, timeout_s: float, max_records: int) -> Polled:
        """Wait for records; also what changed hands, and which positions the broker does not have."""
        out_of_range: frozenset[TopicPartition] = frozenset()
        records: dict[Any, list[Any]] = {}
        with self._translated():
            try:
                records = self._consumer.poll(timeout_ms=int(timeout_s * 1000), max_records=max_records)
            except NoOffsetForPartitionError:
                pass  # a partition nobody has read yet; the worker seeks it to its stored offset
            except OffsetOutOfRangeError as error:
                out_of_range = frozenset(_ours(partition) for partition in error.args[0])
            except LogTruncationError:
                out_of_range = frozenset(self._assigned())
            slices = [PartitionSlice(_ours(key), found, found[-1].offset + 1) for key, found in records.items()]
            if slices:
                self._heard_at = self._monotonic()
            else:
                slices = self._markers()
                self._probe()
            assigned = self._assigned()
        # After the records and positions were read: what changes hands from here on was not read from.
        return Polled(tuple(slices), assigned, self._notes.take(), out_of_range)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Continue at ``offset``; a partition that was just taken away is left to its new owner."""
        with self._translated(), _unassigned_ignored():
            self._consumer.seek(KafkaPartition(*partition), offset)

    def beginning_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Oldest offset that the broker still has."""
        return self._offsets(self._consumer.beginning_offsets, partitions)

    def end_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Offset after the newest committed record."""
        return self._offsets(self._consumer.end_offsets, partitions)

    def partitions(self) -> frozenset[TopicPartition]:
        """All partitions of the topic; empty while it does not exist."""
        with self._translated():
            numbers = self._consumer.partitions_for_topic(self._topic) or ()
        return frozenset(TopicPartition(self._topic, number) for number in numbers)

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Tell the group coordinator, without waiting for its answer."""
        wanted = {KafkaPartition(*key): OffsetAndMetadata(offset, "", -1) for key, offset in offsets.items()}
        try:
            self._consumer.commit_async(wanted, callback=_log_commit)
        except KafkaError as error:
            logger.debug("Offset commit to Kafka not sent: %s", error, extra={"action": "kafka_commit_failed"})

    def lag(self, partition: TopicPartition, next_offset: int) -> int:
        """Records behind the end as of the last fetch."""
        end = None
        with _unassigned_ignored():
            end = self._consumer.highwater(KafkaPartition(*partition))
        return max(0, (end or next_offset) - next_offset)

    def close(self) -> None:
        """Leave the group and close the connections."""
        try:
            self._consumer.close(autocommit=False, timeout_ms=5000)
        except KafkaError as error:
            logger.warning("Could not leave the group: %s", error, extra={"action": "leave_failed"})

    def _assigned(self) -> frozenset[TopicPartition]:
        return frozenset(_ours(partition) for partition in self._consumer.assignment())

    def _markers(self) -> list[PartitionSlice]:
        """Positions that moved without a record: transaction markers and aborted records at the end of a partition."""
        slices = []
        for partition in self._consumer.assignment():
            position = None
            with _unassigned_ignored():
                position = self._consumer.position(partition, timeout_ms=0)
            if position is not None:
                slices.append(PartitionSlice(_ours(partition), (), position))
        return slices

    def _probe(self) -> None:
        """While nothing comes, ask once in a while: an idle topic and a dead broker look the same otherwise."""
        if self._monotonic() - self._heard_at < PROBE_INTERVAL_S:
            return
        self._consumer.partitions_for_topic(self._topic)
        some = list(self._consumer.assignment())[:1]
        if some:
            self._consumer.end_offsets(some, timeout_ms=int(REQUEST_TIMEOUT_S * 1000))
        self._heard_at = self._monotonic()

    def _offsets(
        self, ask: Callable[..., dict[Any, int]], partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, int]:
        wanted = [KafkaPartition(*partition) for partition in partitions]
        with self._translated():
            answers = ask(wanted, timeout_ms=int(REQUEST_TIMEOUT_S * 1000))
        return {_ours(partition): offset for partition, offset in answers.items()}

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Errors of the client library as ours."""
        try:
            yield
        except _FATAL as error:
            raise ConfigError(f"Kafka cannot work with these settings: {error}") from error
        except (AuthorizationError, SaslAuthenticationFailedError) as error:
            remedy = "check kafka.security and the ACLs of topic and group"
            raise BrokerUnavailable(f"The broker at {self._servers} refuses us: {error}; {remedy}.") from error
        except KafkaError as error:
            raise BrokerUnavailable(
                f"No answer from the broker at {self._servers} ({type(error).__name__}: {error}); "
                "check that it runs and kafka.bootstrap_servers."
            ) from error
        except (OSError, ValueError) as error:  # certificates that do not exist or do not parse, unknown mechanisms
            raise ConfigError(f"Kafka cannot work with these settings: {error}") from error


class _Notes(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python ships no types
    """Partitions that changed hands, noted on the IO thread and taken by the worker."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed: set[TopicPartition] = set()

    def on_partitions_revoked(self, revoked: Collection[Any]) -> None:
        """Note."""
        self._note(revoked)

    def on_partitions_assigned(self, assigned: Collection[Any]) -> None:
        """Note."""
        self._note(assigned)

    def on_partitions_lost(self, lost: Collection[Any]) -> None:
        """Note."""
        self._note(lost)

    def take(self) -> frozenset[TopicPartition]:
        """What was noted since the last call."""
        with self._lock:
            changed, self._changed = frozenset(self._changed), set()
        return changed

    def _note(self, partitions: Collection[Any]) -> None:
        with self._lock:
            self._changed.update(_ours(partition) for partition in partitions)


@contextmanager
def _unassigned_ignored() -> Iterator[None]:
    """A partition can be taken away between two calls, or not have a position yet; the next poll tells."""
    try:
        yield
    except (IllegalStateError, NoOffsetForPartitionError) as error:
        logger.debug("Partition taken away meanwhile: %s", error, extra={"action": "partition_gone"})


def _ours(partition: Any) -> TopicPartition:
    return TopicPartition(partition.topic, partition.partition)


def _path(path: Any) -> str | None:
    return None if path is None else str(path)


def _log_commit(_offsets: Any, response: Any) -> None:
    if isinstance(response, Exception):
        logger.debug("Offset commit to Kafka failed: %s", response, extra={"action": "kafka_commit_failed"})
