"""Dead letters as people and the redrive see them."""

from __future__ import annotations

import pytest

from monitor.errors import NotFound
from monitor.store import Store
from tests.store_builders import NOW, P0, dead_letter, outcome, part

HEADERS = (("trace", b"abc"), ("raw", b"\xff\x00"), ("none", None), ("trace", b""))


@pytest.fixture
def letters(store: Store) -> Store:
    """Five dead letters, ids 1 to 5: three that are no JSON, two of a wrong dimension."""
    store.pipeline.claim("s", {P0: 0})
    found = [
        dead_letter(number, reason="invalid-json" if number % 2 else "wrong-dimension", headers=HEADERS, payload_size=9)
        for number in range(1, 6)
    ]
    store.pipeline.write(outcome(part(0, 6, dead_letters=found, scores=())))
    return store


def redrive(store: Store, *ids: int) -> None:
    """Mark as replayed, as the pipeline does."""
    store.pipeline.write_redrive(outcome(part(0, 0, scores=())), ids)


def test_list_is_newest_first_and_filters_combine(letters: Store) -> None:
    """What ``narrows dead-letters list`` prints."""
    listed = letters.dead_letters.list
    assert [row.record_offset for row in listed(limit=2)] == [5, 4]
    assert [row.record_offset for row in listed("s", reason="invalid-json", before_id=5)] == [3, 1]
    assert listed("other") == []


def test_get_has_everything(letters: Store) -> None:
    """Bytes are the bytes that came, headers in order and with repetitions."""
    row = letters.dead_letters.get(letters.dead_letters.list(limit=1)[0].id)
    assert (row.stream, row.topic, row.partition, row.record_offset) == ("s", "t", 0, 5)
    assert (row.key, row.payload, row.payload_size) == (b"k", b"{", 9)
    assert row.headers == HEADERS
    assert (row.reason, row.detail, row.error_class) == ("invalid-json", "line 1", "DecodeError")
    assert (row.record_time, row.redriven_at) == (NOW, None)


def test_get_says_where_to_look_when_unknown(store: Store) -> None:
    """The message is the remedy."""
    with pytest.raises(NotFound, match="dead-letters list"):
        store.dead_letters.get(7)


def test_counts_are_of_those_that_wait_most_frequent_first(letters: Store) -> None:
    """What was redriven is done."""
    assert list(letters.dead_letters.counts().items()) == [("invalid-json", 3), ("wrong-dimension", 2)]
    redrive(letters, *(row.id for row in letters.dead_letters.list(reason="invalid-json")))
    assert letters.dead_letters.counts("s") == {"wrong-dimension": 2}
    assert letters.dead_letters.counts("other") == {}


def test_pending_redrive_is_oldest_first_without_what_was_redriven(letters: Store) -> None:
    """Replayed in the order in which the records came."""
    pending = letters.dead_letters.pending_redrive
    first = pending("s")[0]
    redrive(letters, first.id)
    assert [row.record_offset for row in pending("s")] == [2, 3, 4, 5]
    assert [row.record_offset for row in pending("s", reason="invalid-json", limit=1)] == [3]
    assert letters.dead_letters.get(first.id).redriven_at is not None


def test_pending_redrive_takes_ids_and_pages(letters: Store) -> None:
    """No ids means none, not all."""
    pending = letters.dead_letters.pending_redrive
    ids = [row.id for row in pending("s")]
    assert [row.id for row in pending("s", ids=[ids[3], ids[1]])] == [ids[1], ids[3]]
    assert pending("s", ids=[]) == []
    assert [row.id for row in pending("s", after_id=ids[1])] == ids[2:]
    assert pending("other") == []
