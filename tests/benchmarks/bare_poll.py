"""The limit: kafka-python polling a topic to its end and doing nothing with the records.

python -m tests.benchmarks.bare_poll BOOTSTRAP TOPIC MAX_RECORDS
"""

import sys

from kafka import KafkaConsumer, TopicPartition


def main(bootstrap_servers: str, topic: str, max_records: int) -> int:
    """Read all; the number of records."""
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap_servers, enable_auto_commit=False, isolation_level="read_committed",
        max_partition_fetch_bytes=4 * 1024**2,
    )  # fmt: skip
    partition = TopicPartition(topic, 0)
    consumer.assign([partition])
    consumer.seek_to_beginning(partition)
    end, seen = consumer.end_offsets([partition])[partition], 0
    while seen < end:
        seen += sum(len(records) for records in consumer.poll(timeout_ms=1000, max_records=max_records).values())
    consumer.close()
    return seen


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
