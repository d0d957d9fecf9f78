"""The error tree. Each error says what, where and how to mend it; its docstring is the message when none is given.

NarrowsError
├── ConfigError               exit 2: the remedy is in a file or an option
├── UsageError                exit 2: the command was given something that it cannot use
├── NoChampion                exit 1: nothing to score with yet
├── RegistryError             an artifact is missing or does not verify; the champion in memory goes on
├── StoreError
│   ├── SchemaBehind          exit 1: ``narrows db upgrade`` first
│   ├── OffsetConflict        another worker owns the partition now; drop and go on
│   ├── LeaseLost             another process does this job now; stop without writing
│   └── NotFound              no such row; the message lists what there is
├── OffsetsBeyondEnd          the topic was recreated or truncated; a person must decide
└── Unavailable (retry)       the world is down: back off, show it, go on when it is back
    ├── BrokerUnavailable
    └── StoreUnavailable
"""

from __future__ import annotations

import inspect
from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # every command imports this file, and records bring numpy along
    from monitor.records import TopicPartition


class NarrowsError(Exception):
    """Narrows failed."""

    #: Exit status of a command that ends with this error.
    exit_code = 1
    #: Whether the same call may succeed later without anybody's help.
    retry = False

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or inspect.getdoc(type(self)) or type(self).__name__)


class ConfigError(NarrowsError):
    """The configuration is not usable."""

    exit_code = 2


class UsageError(NarrowsError):
    """The command was given something that it cannot use."""

    exit_code = 2


class NoChampion(NarrowsError):  # noqa: N818 - a state that is named, as the siblings below
    """The stream has no champion yet. Train one: narrows train FILE --stream NAME."""


class RegistryError(NarrowsError):
    """A model artifact is missing or does not verify."""


class StoreError(NarrowsError):
    """The store refused."""


class SchemaBehind(StoreError):  # noqa: N818
    """The database schema is older than this program. Run: narrows db upgrade."""


class OffsetConflict(StoreError):  # noqa: N818
    """Another worker moved the offset of a partition.

    Attributes:
        partitions: Whose stored offset is not the expected one.
    """

    def __init__(self, partitions: Collection[TopicPartition]) -> None:
        self.partitions = frozenset(partitions)
        names = ", ".join(f"{topic}/{number}" for topic, number in sorted(self.partitions))
        super().__init__(f"Another worker moved the offset of {names}; nothing of this batch was written for it.")


class LeaseLost(StoreError):  # noqa: N818
    """Another process holds the lease now; nothing was written."""


class NotFound(StoreError):  # noqa: N818
    """No such row."""


class OffsetsBeyondEnd(NarrowsError):  # noqa: N818
    """A stored offset lies beyond the end of its partition.

    The topic was deleted and created again, or truncated; going on would give new records the identity of old ones.
    """


class Unavailable(NarrowsError):  # noqa: N818
    """Something that Narrows needs cannot be reached."""

    retry = True


class BrokerUnavailable(Unavailable):
    """The Kafka broker cannot be reached. Check kafka.bootstrap_servers and kafka.security."""


class StoreUnavailable(Unavailable):
    """The database cannot be reached. Check store.url."""
