"""A real broker and a real database from wheels, for tests, the demo and `narrows dev`; nothing for production.

Nothing heavy is imported here or below before a server is started. A broker or database named in the environment
always wins: ask `external_bootstrap_servers` and `external_store_url` first.
"""

from collections.abc import Mapping

from monitor.local.dev import BOOTSTRAP_VARIABLE, STORE_VARIABLE
from monitor.local.errors import DownloadError, LocalError, MissingExtraError, PortTakenError, StartError
from monitor.local.kafka_server import KafkaServer
from monitor.local.postgres_server import PostgresServer

__all__ = [
    "BOOTSTRAP_VARIABLE",
    "STORE_VARIABLE",
    "DownloadError",
    "KafkaServer",
    "LocalError",
    "MissingExtraError",
    "PortTakenError",
    "PostgresServer",
    "StartError",
    "external_bootstrap_servers",
    "external_store_url",
]


def external_bootstrap_servers(environment: Mapping[str, str]) -> str | None:
    """Address of the broker that the environment names, or None."""
    return environment.get(BOOTSTRAP_VARIABLE) or None


def external_store_url(environment: Mapping[str, str]) -> str | None:
    """URL of the database that the environment names, or None."""
    return environment.get(STORE_VARIABLE) or None
