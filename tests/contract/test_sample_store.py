"""Kept samples: what calibrates, what trains, what stays when the table is trimmed."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from monitor.records import Sample
from monitor.sampling import reservoir_keys
from monitor.store import Store
from monitor.store.tables import labels, samples
from tests.store_builders import NOW, P0, outcome, part, rows, sample

STREAM = "s"


def kept(number: int, **changes: Any) -> Sample:
    """Sample ``number``, kept that many seconds after the first, with its number as its first feature."""
    return sample(
        number,
        **{
            "kept_at": NOW + timedelta(seconds=number),
            "event_time": NOW + timedelta(seconds=number),
            "features": np.array([number, 0.5], dtype=np.float32),
            "reservoir_key": float(reservoir_keys(P0, np.array([number]))[0]),
            **changes,
        },
    )


def keep(store: Store, *wanted: Sample) -> None:
    """Write samples as the pipeline does."""
    start = store.pipeline.claim(STREAM, {P0: 0})[P0]
    store.pipeline.write(outcome(part(start, start + 1, samples=wanted, scores=())))


def judge(store: Store, verdicts: dict[int, str]) -> None:
    """Verdicts by number of the sample."""
    with store.database.write() as connection:
        for number, verdict in verdicts.items():
            query = samples.update().where(samples.c.record_offset == number).values(verdict=verdict)
            connection.execute(query)


def numbers(x: np.ndarray[Any, Any]) -> list[int]:
    """First features, as the numbers of the samples."""
    return [int(value) for value in x[:, 0]] if len(x) else []


class TestCalibrationSet:
    def test_calibration_set_is_arrays_newest_first(self, store: Store) -> None:
        """Shapes, types and values survive; x may be written to."""
        keep(store, kept(1, label="low"), kept(2, score=2.5))
        found = store.samples.calibration_set(STREAM, limit=10)
        assert found.x.tolist() == [[2.0, 0.5], [1.0, 0.5]]
        assert (found.x.dtype, found.x.flags.writeable) == (np.dtype(np.float32), True)
        assert found.scores.tolist() == [2.5, 1.0]
        assert found.labels == (None, "low")
        assert found.predicted == ("low", "low")
        assert found.event_times == (NOW + timedelta(seconds=2), NOW + timedelta(seconds=1))
        assert found.flagged.tolist() == [False, False]
        assert (len(found), found.verdicts) == (2, (None, None))

    def test_calibration_set_is_empty_without_samples(self, store: Store) -> None:
        """Nothing is no error."""
        found = store.samples.calibration_set(STREAM, limit=10)
        assert (len(found), found.x.shape, found.scores.shape) == (0, (0, 0), (0,))

    def test_calibration_set_honours_flags_and_verdicts(self, store: Store) -> None:
        """Suspects stay out unless somebody vouches for them; what somebody calls an anomaly stays out."""
        keep(store, *(kept(number, flagged=number < 5) for number in range(1, 8)))
        judge(store, {1: "not_anomaly", 2: "new_normal", 3: "anomaly", 4: "expected", 6: "anomaly"})
        assert numbers(store.samples.calibration_set(STREAM, limit=10).x) == [7, 5, 2, 1]

    def test_complete_set_has_flagged_and_judged_rows_too(self, store: Store) -> None:
        """A complete sample is what an honest quantile needs."""
        keep(store, *(kept(number, flagged=number == 2) for number in range(1, 4)))
        judge(store, {1: "anomaly"})
        found = store.samples.complete_set(STREAM, limit=10)
        assert numbers(found.x) == [3, 2, 1]
        assert found.flagged.tolist() == [False, True, False]
        assert found.verdicts == (None, None, "anomaly")

    def test_sets_keep_to_limit_and_time(self, store: Store) -> None:
        """The newest; and only what the champion cannot have seen."""
        keep(store, *(kept(number) for number in range(1, 7)))
        assert numbers(store.samples.calibration_set(STREAM, limit=2).x) == [6, 5]
        after = NOW + timedelta(seconds=4)
        assert numbers(store.samples.calibration_set(STREAM, limit=9, after=after).x) == [6, 5]
        assert numbers(store.samples.complete_set(STREAM, limit=9, after=after).x) == [6, 5]

    def test_sets_leave_out_rows_of_training_files(self, store: Store) -> None:
        """The encoder has seen them: their scores say nothing about new records."""
        store.samples.seed(STREAM, np.ones((3, 2)), ["low"] * 3, source="f.npz", now=NOW)
        keep(store, kept(1))
        assert numbers(store.samples.calibration_set(STREAM, limit=10).x) == [1]
        assert numbers(store.samples.complete_set(STREAM, limit=10).x) == [1]

    def test_sets_leave_out_rows_of_another_dimension(self, store: Store) -> None:
        """The stream's schema changed; the newest row says what holds now."""
        keep(store, kept(1, features=np.ones(3, np.float32)), kept(2))
        assert numbers(store.samples.calibration_set(STREAM, limit=10).x) == [2]


class TestTrainingSet:
    def test_training_set_is_labelled_and_balanced(self, store: Store) -> None:
        """A frequent class does not crowd out a rare one."""
        keep(store, *(kept(number, label="high" if number % 10 == 0 else "low") for number in range(1, 31)))
        keep(store, kept(40), kept(41, label="other"))
        found = store.samples.training_set(STREAM, classes=["low", "high"], limit_per_class=4)
        assert Counter(found.labels) == {"low": 4, "high": 3}
        assert numbers(found.x) == sorted(numbers(found.x), reverse=True)
        everything = store.samples.training_set(STREAM, classes=None, limit_per_class=1000)
        assert Counter(everything.labels) == {"low": 27, "high": 3, "other": 1}

    def test_training_set_is_half_newest_and_half_a_uniform_choice_of_the_rest(self, store: Store) -> None:
        """Recent rows follow drift, the reservoir remembers."""
        everyone = [kept(number, label="low") for number in range(1, 51)]
        keep(store, *everyone)
        older = sorted(everyone[:-5], key=lambda each: each.reservoir_key)[:5]
        wanted = {*range(46, 51), *(each.record_offset for each in older)}
        found = store.samples.training_set(STREAM, classes=None, limit_per_class=10)
        assert set(numbers(found.x)) == wanted

    @pytest.mark.parametrize(("classes", "wanted"), [(None, [4, 2]), (["low"], [4, 2, 1])])
    def test_training_set_takes_flagged_rows_that_somebody_vouches_for(
        self, store: Store, classes: list[str] | None, wanted: list[int]
    ) -> None:
        """A verdict does, or the label of a class that is known; a verdict against it wins."""
        keep(store, *(kept(number, label="low", flagged=number < 4) for number in range(1, 6)))
        judge(store, {2: "new_normal", 3: "anomaly", 5: "expected"})
        assert numbers(store.samples.training_set(STREAM, classes=classes, limit_per_class=10).x) == wanted

    def test_training_set_has_rows_of_training_files(self, store: Store) -> None:
        """They are the first labelled rows that there are; they were never scored."""
        store.samples.seed(STREAM, np.ones((2, 2)), ["low", None], source="f.npz", now=NOW)
        found = store.samples.training_set(STREAM, classes=None, limit_per_class=10)
        assert found.labels == ("low",)
        assert np.isnan(found.scores).all()


class TestLabels:
    def test_add_labels_overrides_and_the_newest_wins(self, store: Store) -> None:
        """Late ground truth beats what came with the record; an older file that is read later changes nothing."""
        keep(store, kept(1, label="low"), kept(2))
        add = store.samples.add_labels
        assert add(STREAM, {"s1": "high", "s2": "high", "s9": "high"}, source="a", now=NOW) == 2
        assert add(STREAM, {"s1": "other"}, source="b", now=NOW + timedelta(days=1)) == 1
        add(STREAM, {"s1": "low"}, source="c", now=NOW - timedelta(days=1))
        found = store.samples.training_set(STREAM, classes=None, limit_per_class=10)
        assert found.labels == ("high", "other")
        assert [(row["sample_id"], row["label"], row["source"]) for row in rows(store, labels)] == [
            ("s1", "other", "b"),
            ("s2", "high", "a"),
            ("s9", "high", "a"),
        ]

    def test_add_labels_counts_for_samples_that_are_kept_later(self, store: Store) -> None:
        """A label may be faster than its record."""
        store.samples.add_labels(STREAM, {"s1": "high"}, source="a", now=NOW)
        keep(store, kept(1, label="low"))
        assert store.samples.training_set(STREAM, classes=None, limit_per_class=10).labels == ("high",)

    def test_add_labels_keeps_streams_apart(self, store: Store) -> None:
        """Sample ids are unique within a stream only."""
        keep(store, kept(1))
        assert store.samples.add_labels("other", {"s1": "high"}, source="a", now=NOW) == 0
        assert store.samples.calibration_set(STREAM, limit=1).labels == (None,)

    def test_add_labels_takes_more_than_one_chunk(self, store: Store) -> None:
        """No statement grows with the file."""
        keep(store, *(kept(number) for number in range(1200)))
        found = store.samples.add_labels(STREAM, {f"s{n}": "high" for n in range(1200)}, source="a", now=NOW)
        assert found == 1200


class TestSeed:
    def test_seed_keeps_rows_with_provenance(self, store: Store) -> None:
        """Where each row came from can be told."""
        x = np.array([[1.0, 2.0], [3.0, 4.0]])
        assert store.samples.seed(STREAM, x, ["low", None], source="f.npz", now=NOW) == 2
        first, second = rows(store, samples)
        assert (first["topic"], first["partition"], first["record_offset"]) == ("file:f.npz", 0, 0)
        assert (first["label"], first["predicted_class"], first["score"]) == ("low", "low", None)
        assert (second["label"], second["predicted_class"], second["features"]) == (None, "", [3.0, 4.0])
        assert first["reservoir_key"] != second["reservoir_key"]

    def test_seed_is_idempotent_and_replaces_what_changed(self, store: Store) -> None:
        """Training again on the same file doubles nothing; a corrected file leaves nothing of the old one."""
        for x in (np.ones((1300, 2)), np.ones((1300, 2)), np.zeros((3, 2))):
            store.samples.seed(STREAM, x, None, source="f.npz", now=NOW)
            assert store.samples.count(STREAM) == len(x)
        assert rows(store, samples)[0]["features"] == [0.0, 0.0]

    def test_seed_ranks_behind_what_the_stream_brought(self, store: Store) -> None:
        """Training on a file today must not push today's records out."""
        keep(store, *(kept(number) for number in range(1, 6)))
        store.samples.seed(STREAM, np.zeros((50, 2)), None, source="f.npz", now=NOW + timedelta(days=1))
        store.samples.trim(STREAM, recent=4, reservoir_per_class=0)
        assert numbers(store.samples.complete_set(STREAM, limit=99).x) == [5, 4, 3, 2]
        assert store.samples.count(STREAM) == 4

    def test_seed_is_bounded_per_class(self, store: Store) -> None:
        """A file of any size leaves a table of a known one; the choice is the reservoir's."""
        names = ["low"] * 90 + ["high"] * 10
        assert store.samples.seed(STREAM, np.zeros((100, 2)), names, source="f", now=NOW, limit_per_class=20) == 30
        before = {row["record_offset"] for row in rows(store, samples)}
        store.samples.trim(STREAM, recent=0, reservoir_per_class=20)
        assert {row["record_offset"] for row in rows(store, samples)} == before


class TestTrim:
    def test_trim_keeps_the_recent_and_the_smallest_keys_of_each_class(self, store: Store) -> None:
        """Exactly the union, recomputed here by hand."""
        draw = np.random.default_rng(3)
        everyone = [
            kept(
                number, label=None if draw.random() < 0.5 else "high", predicted_class=str(draw.choice(["low", "mid"]))
            )
            for number in range(200)
        ]
        keep(store, *everyone)
        wanted = {each.record_offset for each in everyone[-20:]}
        for name in ("high", "low", "mid"):
            group = [each for each in everyone if (each.label or each.predicted_class) == name]
            wanted |= {each.record_offset for each in sorted(group, key=lambda each: each.reservoir_key)[:7]}
        assert store.samples.trim(STREAM, recent=20, reservoir_per_class=7) == 200 - len(wanted)
        assert {row["record_offset"] for row in rows(store, samples)} == wanted
        assert store.samples.count(STREAM) == len(wanted)

    def test_trim_is_stable_in_steps(self, store: Store) -> None:
        """Trimming often leaves the same reservoir as trimming once: the smallest keys ever seen."""
        everyone = [kept(number) for number in range(60)]
        for start in range(0, 60, 10):
            keep(store, *everyone[start : start + 10])
            store.samples.trim(STREAM, recent=5, reservoir_per_class=8)
        smallest = sorted(everyone, key=lambda each: each.reservoir_key)[:8]
        wanted = {each.record_offset for each in (*everyone[-5:], *smallest)}
        assert {row["record_offset"] for row in rows(store, samples)} == wanted

    def test_trim_leaves_other_streams_alone(self, store: Store) -> None:
        """Bounds are a stream's own."""
        keep(store, kept(1))
        assert store.samples.trim("other", recent=0, reservoir_per_class=0) == 0
        assert store.samples.count(STREAM) == 1

    def test_add_labels_moves_a_sample_to_the_reservoir_of_its_true_class(self, store: Store) -> None:
        """Otherwise a class known by late labels only would have no reservoir."""
        keep(store, *(kept(number) for number in range(1, 11)))
        store.samples.add_labels(STREAM, {"s3": "rare"}, source="a", now=datetime(2026, 2, 1, tzinfo=UTC))
        store.samples.trim(STREAM, recent=0, reservoir_per_class=1)
        with store.database.read() as connection:
            found = connection.execute(sa.select(samples.c.label)).scalars().all()
        assert sorted(found, key=str) == [None, "rare"]
