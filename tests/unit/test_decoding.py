"""Decoding: every record ends in the batch, among the rejected with a reason, or as a counted tombstone."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.decoding import DecodedSlice, Decoder, as_text, dead_letter
from monitor.fast_json import NOT_PLAIN, FastJson
from monitor.json_payload import StrictJson
from monitor.records import PartitionSlice, TopicPartition
from tests.builders import payload, schema
from tests.fake_kafka import FakeRecord

PARTITION = TopicPartition("numbers", 0)


def decode(values: list[bytes | None], **changes: Any) -> DecodedSlice:
    """Decode values at offsets 0, 1, ... ."""
    records = [FakeRecord(offset, value, key=b"k%d" % offset) for offset, value in enumerate(values)]
    return Decoder(schema(**changes)).decode(PartitionSlice(PARTITION, records, len(records)))


def test_decode_stacks_valid_records_in_order() -> None:
    """Features, times, ids and labels of row i belong to records[i]."""
    found = decode([payload([1, 2.5]), payload([3, 4], id=7, label=None, ts="2024-01-01T00:00:00Z")])
    assert found.x.dtype == np.float32
    assert found.x.tolist() == [[1.0, 2.5], [3.0, 4.0]]
    assert found.event_times_s.tolist() == [1_700_000_000.5, 1_704_067_200.0]
    assert list(found.sample_ids) == ["a", 7]
    assert list(found.labels) == ["low", None]
    assert [record.offset for record in found.records] == [0, 1]


@pytest.mark.parametrize(
    ("value", "reason", "place"),
    [
        (b"{", "invalid-json", "truncated"),
        (b"", "invalid-json", "truncated"),
        (b"\xff\xfe\x00\x01", "invalid-json", "malformed"),
        (b"[" * 200_000, "wrong-type", "object"),
        (payload([1]), "wrong-dimension", "$.x"),
        (payload([1, 2, 3]), "wrong-dimension", "$.x"),
        (payload([1, "2"]), "wrong-type", "$.x[1]"),
        (payload([1, None]), "wrong-type", "$.x[1]"),
        (payload([1, True]), "wrong-type", "$.x[1]"),
        (payload([1, [2]]), "wrong-type", "$.x[1]"),
        (payload([1, 2], surprise=1), "extra-field", "surprise"),
        (b'{"id":"a","ts":1,"label":"low"}', "missing-field", "`x`"),
        (b'{"id":"a","x":[1,2]}', "missing-field", "`ts`"),
        (payload([1, float("nan")]), "not-finite", "NaN"),
        (payload([float("-inf"), 1]), "not-finite", "Infinity"),
        (payload([1, 1e39]), "out-of-range", "feature 1 is 1e+39"),
        (b'{"id":"a","ts":1,"x":[1,1e400]}', "out-of-range", "$.x[1]"),
        (payload([1, 2], ts="yesterday"), "invalid-event-time", "date"),
        (payload([1, 2], ts=1e300), "invalid-event-time", "date"),
        (payload([1, 2], ts=-1), "invalid-event-time", "date"),
        (payload([1, 2], id="x" * 2_000_000), "too-large", "2000"),
    ],
)
def test_decode_rejects_with_reason_and_place(value: bytes, reason: str, place: str) -> None:
    """A bad record is named with its reason; its neighbours are untouched."""
    found = decode([payload([1, 2]), value, payload([3, 4])])
    assert [(rejected.record.offset, rejected.reason) for rejected in found.rejected] == [(1, reason)]
    assert place in found.rejected[0].detail
    assert found.x.tolist() == [[1, 2], [3, 4]]
    assert [record.offset for record in found.records] == [0, 2]


def test_decode_counts_tombstones() -> None:
    """A null value is neither scored nor a dead letter."""
    found = decode([None, payload([1, 2]), None])
    assert (found.n_tombstones, len(found.records), found.rejected) == (2, 1, ())


def test_decode_of_nothing_has_the_right_shape() -> None:
    """An empty slice is a (0, D) matrix, so that nothing downstream is special."""
    assert decode([]).x.shape == (0, 2)
    assert decode([None, b"{"]).x.shape == (0, 2)


def test_decode_reads_nested_paths_and_feature_lists() -> None:
    """Paths are keys joined by dots; a feature list names one number each, in its order."""
    value = json.dumps({"meta": {"id": "n", "class": 3}, "s": {"b": 2, "a": 1}, "ts": 5, "c-3": 9.5}).encode()
    found = decode([value], dimension=3, id="meta.id", label="meta.class", features=["s.a", "c-3", "s.b"])
    assert found.rejected == ()
    assert found.x.tolist() == [[1.0, 9.5, 2.0]]
    assert (list(found.sample_ids), list(found.labels)) == (["n"], [3])
    assert "$.s" in decode([b'{"meta":{"id":1},"s":{"a":1},"ts":5,"c-3":1}'], dimension=3, id="meta.id",
                           label="meta.class", features=["s.a", "c-3", "s.b"]).rejected[0].detail  # fmt: skip


def test_decode_ignores_extra_fields_when_told_to() -> None:
    """``extra = "ignore"`` lets producers add fields first."""
    assert decode([payload([1, 2], surprise=1)], extra="ignore").rejected == ()


def test_decode_reads_seconds_milliseconds_and_dates() -> None:
    """Numbers from 1e11 on are milliseconds; a date written as text means what it says, also in the year 9999."""
    times = [5, 1_700_000_000_000, "2024-01-01", "9999-12-31T00:00:00+00:00"]
    found = decode([payload([1, 2], ts=ts) for ts in times])
    assert found.event_times_s.tolist() == [5.0, 1_700_000_000.0, 1_704_067_200.0, 253_402_214_400.0]


def test_decode_takes_the_kafka_timestamp_without_an_event_time() -> None:
    """The stream need not carry a time of its own."""
    found = decode([b'{"id":"a","x":[1,2]}'], event_time=None)
    assert found.event_times_s.tolist() == [1_700_000_000.0]


def test_float32_payload_is_read_as_it_stands() -> None:
    """Raw little-endian floats: the key is the id; a wrong length or a NaN is rejected."""
    good, nan = np.array([1.5, -2.0], dtype="<f4").tobytes(), np.array([np.nan, 1], dtype="<f4").tobytes()
    found = decode([good, good[:-1], nan, good], payload="float32")
    assert found.x.tolist() == [[1.5, -2.0]] * 2
    assert list(found.sample_ids) == ["k0", "k3"]
    assert sorted((rejected.record.offset, rejected.reason) for rejected in found.rejected) == [
        (1, "wrong-dimension"), (2, "not-finite"),
    ]  # fmt: skip


def test_dead_letter_keeps_bytes_provenance_and_size() -> None:
    """Raw bytes up to the limit, headers as they came, the full size beside them."""
    record = FakeRecord(9, b"\x00garbage", key=b"\xff", headers=[("trace", b"\x01"), ("none", None)])
    found = Decoder(schema()).decode(PartitionSlice(PARTITION, [record], 10))
    letter = dead_letter(PARTITION, found.rejected[0], max_payload_bytes=3)
    assert (letter.partition, letter.record_offset, letter.key) == (PARTITION, 9, b"\xff")
    assert (letter.payload, letter.payload_size) == (b"\x00ga", 8)
    assert letter.headers == (("trace", b"\x01"), ("none", None))
    assert letter.record_time is not None
    assert letter.record_time.timestamp() == 1_700_000_000


@pytest.mark.parametrize(("value", "text"), [(3, "3"), (3.0, "3"), ("3", "3"), (2.5, "2.5"), (None, None), ("", None)])
def test_as_text_makes_equal_labels_equal(value: Any, text: str | None) -> None:
    """Producers write classes as numbers or strings; they are one class."""
    assert as_text(value) == text


JSON_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
JSON_VALUES = st.recursive(
    JSON_LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
)


@given(
    st.lists(st.none() | st.binary(max_size=60) | JSON_VALUES.map(lambda value: json.dumps(value).encode()), max_size=8)
)
def test_decode_never_raises_and_loses_nothing(values: list[bytes | None]) -> None:
    """Whatever arrives, each record is accounted for exactly once."""
    found = decode(values)
    offsets = [record.offset for record in found.records] + [rejected.record.offset for rejected in found.rejected]
    assert len(offsets) == len(set(offsets))
    assert len(offsets) + found.n_tombstones == len(values)
    assert np.isfinite(found.x).all()


@given(x=st.lists(JSON_LEAVES, min_size=2, max_size=2), ts=JSON_LEAVES, label=JSON_VALUES, ident=JSON_LEAVES)
def test_decode_of_almost_valid_records_is_finite_or_rejected(x: Any, ts: Any, label: Any, ident: Any) -> None:
    """The right shape with any content gives finite float32 or a reason."""
    found = decode([payload(x, ts=ts, label=label, id=ident)])
    assert len(found.records) + len(found.rejected) == 1
    assert np.isfinite(found.x).all()
    assert np.isfinite(found.event_times_s).all()


PLAIN_LEAVES = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5)
)
NEARLY = st.fixed_dictionaries(
    {
        "x": st.lists(PLAIN_LEAVES | st.lists(st.floats(0, 1), max_size=2), max_size=3) | PLAIN_LEAVES,
        "ts": PLAIN_LEAVES,
    },
    optional={"id": PLAIN_LEAVES | st.lists(st.integers(), max_size=1), "label": PLAIN_LEAVES, "more": st.integers()},
)


@given(NEARLY, st.sampled_from([b"%s", b" %s", b"\xef\xbb\xbf%s", b"%s ", b"%s}"]))
def test_quick_parser_gives_what_the_strict_one_gives(record: dict[str, Any], frame: bytes) -> None:
    """Simdjson never accepts, or reads otherwise, what msgspec does not."""
    value = frame % json.dumps(record).encode()
    strict, quick = StrictJson(schema()), FastJson(schema())
    try:
        parts = quick.parse(value)
    except NOT_PLAIN:
        return
    expected = strict.parse(value)
    assert bytes(parts[0]) == bytes(expected[0])
    assert (parts[1], parts[3]) == (expected[1], expected[3])
    assert str(parts[2]) == str(expected[2]) or float(parts[2]) == expected[2]


@pytest.mark.parametrize(
    "value",
    [
        b'{"id":"a","ts":1,"x":[[1],[2]]}', b'{"id":"a","ts":1,"x":[1,2],"x":[3,4]}', b'{"id":"a","ts":1,"x":[[1,2]]}',
        b'{"id":"[","ts":1,"x":[1,2]}', b'{"id":"a","ts":true,"x":[1,2]}', b'{"id":["a"],"ts":1,"x":[1,2]}',
    ],
)  # fmt: skip
def test_quick_parser_leaves_what_is_not_plain_to_the_strict_one(value: bytes) -> None:
    """Nested arrays, keys given twice, odd types: msgspec decides."""
    with pytest.raises(NOT_PLAIN):
        FastJson(schema()).parse(value)


def test_quick_parser_reads_plain_records() -> None:
    """Integers, exponents, a missing label; and it is used only where no other keys may be there."""
    parts = FastJson(schema()).parse(b'{"x":[1,-2.5e3],"ts":5,"id":7}')
    assert np.frombuffer(parts[0]).tolist() == [1.0, -2500.0]
    assert parts[1:] == (7, 5, None)
    assert FastJson.supports(schema())
    assert not FastJson.supports(schema(extra="ignore"))
    assert not FastJson.supports(schema(id="meta.id"))
    assert not FastJson.supports(schema(features=["a", "b"]))


def test_without_simdjson_msgspec_reads_every_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no wheel of it for every Python."""
    monkeypatch.setattr("monitor.fast_json.find_spec", lambda _name: None)
    assert not FastJson.supports(schema())
    assert decode([payload([1, 2]), b"{"]).x.tolist() == [[1, 2]]
