"""Sends records to a broker as fast as it goes: for the demo, benchmarks and tests; the service itself sends none."""

import importlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

#: Largest record that the client lets pass; the broker has a limit of its own.
_MAX_BYTES = 64 * 1024 * 1024
#: Records handed over between two flushes; bounds the client's memory.
_FLUSH_EVERY = 10_000


@contextmanager
def producing(bootstrap_servers: str, *, topic: str) -> Iterator[Callable[[bytes], object]]:
    """A function that sends one value to a topic at once; all have arrived at the end.

    Raises:
        kafka.errors.KafkaError: The broker refused one.
    """
    kafka = importlib.import_module("kafka")
    producer = kafka.KafkaProducer(bootstrap_servers=bootstrap_servers)
    try:
        yield lambda value: producer.send(topic, value=value)
        producer.flush(timeout=60)
    finally:
        producer.close()


def send_all(
    bootstrap_servers: str, *, topic: str, values: Iterable[bytes | None], partition: int | None = None
) -> int:
    """Send values, in order, and wait until the broker has them.

    Args:
        bootstrap_servers: Address of the broker.
        topic: Topic that exists.
        values: Payloads; None is a tombstone.
        partition: Where to; None spreads them.

    Returns:
        How many were sent.

    Raises:
        kafka.errors.KafkaError: The broker refused one.
    """
    kafka = importlib.import_module("kafka")
    sent = 0
    producer = kafka.KafkaProducer(
        bootstrap_servers=bootstrap_servers, linger_ms=20, batch_size=256 * 1024, max_request_size=_MAX_BYTES
    )
    try:
        for sent, value in enumerate(values, start=1):
            key = None if value is not None else b"tombstone"
            last = producer.send(topic, value=value, key=key, partition=partition)
            if sent % _FLUSH_EVERY == 0:
                last.get(timeout=60)
        producer.flush(timeout=60)
    finally:
        producer.close()
    return sent
