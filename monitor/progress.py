"""Which partitions are ours and how far each has come: the worker's own view, checked against the store's. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from monitor.records import PartitionSlice, Polled, TopicPartition


class Progress:
    """Expected offset of every partition that was reconciled with the store.

    A partition is reconciled once: the stored offset is read and the source is told to seek there. It is forgotten
    when it is no longer assigned, when it changed hands since the last poll, after a conflict, and after an outage.
    """

    def __init__(self) -> None:
        self._expected: dict[TopicPartition, int] = {}

    def __getitem__(self, partition: TopicPartition) -> int:
        """Offset that the store is known to hold."""
        return self._expected[partition]

    def __contains__(self, partition: TopicPartition) -> bool:
        """Whether the partition is reconciled."""
        return partition in self._expected

    def reconciled(self) -> dict[TopicPartition, int]:
        """All partitions that are ours, with their offsets."""
        return dict(self._expected)

    def unknown(self, polled: Polled) -> list[TopicPartition]:
        """Forget what is not surely ours any more; return what is assigned but not reconciled."""
        self.forget(polled.reassigned)
        self.forget(set(self._expected) - polled.assigned)
        return sorted(polled.assigned - set(self._expected))

    def learn(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Take over stored offsets, after claiming or after a write."""
        self._expected.update(offsets)

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """Do not trust our position in these any more."""
        for partition in partitions:
            self._expected.pop(partition, None)

    def forget_all(self) -> None:
        """After an outage nothing is sure: read every stored offset again."""
        self._expected.clear()

    def usable(self, slices: Iterable[PartitionSlice]) -> list[PartitionSlice]:
        """Slices to process: of reconciled partitions only, without what was handled already.

        Ask after ``unknown`` and before ``learn``: a partition that is claimed now was polled from elsewhere.
        """
        kept = []
        for piece in slices:
            expected = self._expected.get(piece.partition)
            if expected is None or piece.next_offset <= expected:
                continue
            overlaps = bool(piece.records) and piece.records[0].offset < expected
            kept.append(piece.starting_at(expected) if overlaps else piece)
        return kept
