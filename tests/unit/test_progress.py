"""Progress: which slices may be processed, and which partitions need the stored offset first."""

from monitor.progress import Progress
from monitor.records import PartitionSlice, Polled, TopicPartition
from tests.fake_kafka import FakeRecord

A, B = TopicPartition("t", 0), TopicPartition("t", 1)


def piece(partition: TopicPartition, first: int, last: int) -> PartitionSlice:
    """Records first..last."""
    return PartitionSlice(partition, [FakeRecord(offset, b"") for offset in range(first, last + 1)], last + 1)


def known(**offsets: int) -> Progress:
    """Reconciled partitions A and B as given."""
    progress = Progress()
    progress.learn({{"a": A, "b": B}[name]: offset for name, offset in offsets.items()})
    return progress


def test_unknown_names_assigned_partitions_that_were_never_reconciled() -> None:
    """And forgets those that are not assigned any more."""
    progress = known(a=5)
    assert progress.unknown(Polled((), frozenset({B}))) == [B]
    assert progress.reconciled() == {}


def test_unknown_names_partitions_that_changed_hands_even_when_ours_again() -> None:
    """Revoked and given back between two polls: the position is not to be trusted."""
    progress = known(a=5, b=7)
    assert progress.unknown(Polled((), frozenset({A, B}), reassigned=frozenset({A}))) == [A]
    assert progress.reconciled() == {B: 7}


def test_usable_trims_what_was_handled_and_drops_what_is_not_reconciled() -> None:
    """The overlap of a slice with the stored offset is cut; an unknown partition waits for its seek."""
    progress = known(a=5)
    (kept,) = progress.usable([piece(A, 3, 8), piece(B, 0, 4)])
    assert [record.offset for record in kept.records] == [5, 6, 7, 8]
    assert kept.next_offset == 9


def test_usable_drops_slices_below_the_stored_offset() -> None:
    """Nothing new in them."""
    assert known(a=9).usable([piece(A, 3, 8)]) == []


def test_usable_keeps_holes_and_markers() -> None:
    """Offsets may be missing (compaction, markers), and a position may move without a record."""
    kept = known(a=5, b=2).usable([piece(A, 7, 8), PartitionSlice(B, (), 4)])
    assert [(found.partition, found.next_offset) for found in kept] == [(A, 9), (B, 4)]


def test_forget_all_makes_everything_unknown() -> None:
    """After an outage every offset is read again."""
    progress = known(a=5, b=7)
    progress.forget_all()
    assert progress.unknown(Polled((), frozenset({A, B}))) == [A, B]
