"""Makes topics on a broker: for the demo, `narrows dev` and tests; the service itself never makes any."""

import importlib
from collections.abc import Mapping
from types import MappingProxyType

NO_CONFIGS: Mapping[str, str] = MappingProxyType({})


def create_topic(
    bootstrap_servers: str, *, name: str, partitions: int = 1, configs: Mapping[str, str] = NO_CONFIGS
) -> str:
    """Make a topic and wait until every partition has its leader.

    Args:
        bootstrap_servers: Address of the broker.
        name: Name of the new topic.
        partitions: How many.
        configs: Topic settings such as ``{"retention.ms": "1000"}``.

    Returns:
        The name.

    Raises:
        kafka.errors.KafkaError: The broker refused, or the topic exists.
    """
    admin = importlib.import_module("kafka.admin")
    wanted = {"num_partitions": partitions, "replication_factor": 1, "configs": dict(configs)}
    with admin.KafkaAdminClient(bootstrap_servers=bootstrap_servers) as client:
        client.create_topics({name: wanted}, wait_for_metadata=True)
    return name
