"""What every record source does, fake and real alike: positions, ownership, lost ranges, close."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka import TopicPartition as KafkaPartition

from monitor.kafka_io import KafkaSource
from monitor.ports import RecordSource
from monitor.records import PartitionSlice, Polled, TopicPartition
from monitor.settings import KafkaSettings
from tests.conftest import MakeTopic
from tests.fake_kafka import FakeRecordSource, FakeTopic


class RecordSourceContract:
    """One topic with two partitions; ``produce(values, partition)``, ``open_source()``."""

    topic: str
    produce: Callable[[list[bytes | None], int], None]
    delete_before: Callable[[int, int], None]
    open_source: Callable[[], RecordSource]

    def test_poll_tells_new_partitions_as_reassigned_and_reads_on_after_seek(self) -> None:
        """Partitions are announced once; after a seek records come in order, with the position that follows."""
        self.produce([b"a", b"b", b"c"], 0)
        source = self.open_source()
        polled = poll_until(source, lambda polled: bool(polled.assigned))
        assert polled.assigned == self.both()
        seek_all(source, polled, 0)
        piece = records_of(source, n_records=3)
        assert [record.value for record in piece.records] == [b"a", b"b", b"c"]
        assert (piece.partition, piece.next_offset) == (TopicPartition(self.topic, 0), 3)

    def test_seek_drops_what_was_fetched_ahead(self) -> None:
        """After a seek backwards the same records come again; null values stay null."""
        self.produce([b"a", None, b"c"], 0)
        source = self.open_source()
        seek_all(source, poll_until(source, lambda polled: bool(polled.assigned)), 0)
        records_of(source, n_records=3)
        source.seek(TopicPartition(self.topic, 0), 1)
        again = records_of(source, n_records=2)
        assert [(record.offset, record.value) for record in again.records] == [(1, None), (2, b"c")]

    def test_offsets_are_those_of_the_log(self) -> None:
        """Beginning, end and partitions come from the broker."""
        self.produce([b"a", b"b"], 1)
        source = self.open_source()
        assert source.partitions() == self.both()
        assert source.beginning_offsets(self.both()) == dict.fromkeys(self.both(), 0)
        assert source.end_offsets(self.both()) == {TopicPartition(self.topic, 0): 0, TopicPartition(self.topic, 1): 2}

    def test_poll_reports_a_position_that_the_broker_no_longer_has(self) -> None:
        """Retention is told as ``out_of_range``, never answered by a silent jump."""
        self.produce([b"a", b"b", b"c"], 0)
        self.delete_before(2, 0)
        source = self.open_source()
        seek_all(source, poll_until(source, lambda polled: bool(polled.assigned)), 0)
        lost = poll_until(source, lambda polled: bool(polled.out_of_range))
        assert lost.out_of_range == {TopicPartition(self.topic, 0)}
        assert source.beginning_offsets(lost.out_of_range) == {TopicPartition(self.topic, 0): 2}
        source.seek(TopicPartition(self.topic, 0), 2)
        assert [record.value for record in records_of(source, n_records=1).records] == [b"c"]

    def test_poll_reports_a_position_beyond_the_end(self) -> None:
        """A stored offset that the log has not reached is out of range too."""
        self.produce([b"a"], 0)
        source = self.open_source()
        seek_all(source, poll_until(source, lambda polled: bool(polled.assigned)), 0)
        source.seek(TopicPartition(self.topic, 0), 77)
        assert poll_until(source, lambda polled: bool(polled.out_of_range)).out_of_range

    def test_lag_counts_records_behind_the_end(self) -> None:
        """Known after a fetch, without asking."""
        self.produce([b"a", b"b", b"c"], 0)
        source = self.open_source()
        seek_all(source, poll_until(source, lambda polled: bool(polled.assigned)), 0)
        piece = records_of(source, n_records=3)
        assert source.lag(piece.partition, 1) == 2

    def test_close_may_be_called_twice(self) -> None:
        """A clean end does not depend on how often it is asked for."""
        source = self.open_source()
        source.close()
        source.close()

    def both(self) -> frozenset[TopicPartition]:
        """The two partitions."""
        return frozenset(TopicPartition(self.topic, number) for number in (0, 1))


class TestFakeRecordSource(RecordSourceContract):
    """The fake."""

    @pytest.fixture(autouse=True)
    def _topic(self) -> None:
        topic = FakeTopic("numbers", logs={0: [], 1: []})
        self.topic = topic.name
        self.produce = lambda values, partition: topic.produce(values, partition=partition)
        self.delete_before = lambda offset, partition: topic.delete_before(offset, partition=partition)
        self.open_source = lambda: FakeRecordSource(topic)


@pytest.mark.kafka
class TestKafkaSource(RecordSourceContract):
    """kafka-python on a real broker."""

    @pytest.fixture(autouse=True)
    def _topic(self, make_topic: MakeTopic, bootstrap_servers: str) -> Iterator[None]:
        self.topic = make_topic(partitions=2)
        opened: list[KafkaSource] = []
        settings = KafkaSettings(bootstrap_servers=[bootstrap_servers])

        def open_source() -> KafkaSource:
            source = KafkaSource(settings, topic=self.topic, group=self.topic, monotonic=time.monotonic)
            opened.append(source)
            return source

        def produce(values: list[bytes | None], partition: int) -> None:
            producer = KafkaProducer(bootstrap_servers=bootstrap_servers)
            for value in values:
                producer.send(self.topic, value=value, key=b"k", partition=partition)
            producer.flush()
            producer.close()

        def delete_before(offset: int, partition: int) -> None:
            admin = KafkaAdminClient(bootstrap_servers=bootstrap_servers)
            admin.delete_records({KafkaPartition(self.topic, partition): offset})
            admin.close()

        self.open_source, self.produce, self.delete_before = open_source, produce, delete_before
        yield
        for source in opened:
            source.close()

    def test_poll_skips_aborted_records_and_moves_past_markers(self, bootstrap_servers: str) -> None:
        """Only committed records are delivered, and the position reaches the end of the log without a record."""
        producer = KafkaProducer(bootstrap_servers=bootstrap_servers, transactional_id=f"tx-{self.topic}")
        producer.init_transactions()
        for value, commit in ((b"yes", True), (b"no", False)):
            producer.begin_transaction()
            producer.send(self.topic, value=value, partition=0)
            producer.flush()
            producer.commit_transaction() if commit else producer.abort_transaction()
        producer.close()
        source = self.open_source()
        seek_all(source, poll_until(source, lambda polled: bool(polled.assigned)), 0)
        assert [record.value for record in records_of(source, n_records=1).records] == [b"yes"]
        end = source.end_offsets([TopicPartition(self.topic, 0)])[TopicPartition(self.topic, 0)]
        assert end == 4
        poll_until(source, lambda polled: any(piece.next_offset == end for piece in polled.slices))

    def test_two_sources_share_the_partitions_and_the_other_takes_over(self) -> None:
        """Ownership moves with membership, and what moved is told as reassigned."""
        first, second = self.open_source(), self.open_source()
        poll_until(first, lambda polled: bool(polled.assigned))
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            one = first.poll(timeout_s=0.1, max_records=10)
            two = second.poll(timeout_s=0.1, max_records=10)
            if one.assigned and two.assigned and not one.assigned & two.assigned:
                break
        assert one.assigned | two.assigned == self.both()
        assert not one.assigned & two.assigned
        second.close()
        taken = poll_until(first, lambda polled: polled.assigned == self.both())
        assert taken.reassigned >= two.assigned


def poll_until(source: RecordSource, condition: Callable[[Polled], bool], *, timeout_s: float = 30.0) -> Polled:
    """Poll until a poll satisfies the condition."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        polled = source.poll(timeout_s=0.2, max_records=100)
        if condition(polled):
            return polled
    raise AssertionError("the source never got there")


def records_of(source: RecordSource, *, n_records: int) -> PartitionSlice:
    """All records of the one partition that has any, as one slice."""
    found: list[Any] = []
    piece: PartitionSlice | None = None
    while len(found) < n_records:
        polled = poll_until(source, lambda polled: any(piece.records for piece in polled.slices))
        (piece,) = [piece for piece in polled.slices if piece.records]
        found += piece.records
    assert piece is not None
    return PartitionSlice(piece.partition, found, piece.next_offset)


def seek_all(source: RecordSource, polled: Polled, offset: int) -> None:
    """Seek every assigned partition."""
    for partition in polled.assigned:
        source.seek(partition, offset)
