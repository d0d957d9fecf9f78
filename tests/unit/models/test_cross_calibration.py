"""Cross-calibration: used when rows are few, holds the rate, and is not at the mercy of one odd row."""

from __future__ import annotations

import numpy as np

from models import api
from models.api import DetectorConfig, Scores
from models.cross_calibration import FOLDS, cross_scores, is_needed
from models.preparation import LabelledRows

CENTRES = np.array([[0.0, 0, 0], [9, 0, 0], [0, 9, 0]])


class PlusOne:
    """A scorer of one fold: first feature plus one; knows what it was trained on."""

    def __init__(self, rows: LabelledRows) -> None:
        self.rows = rows

    def score(self, x: np.ndarray) -> Scores:
        """First feature plus one, class 0."""
        assert not set(x[:, 0]) & set(self.rows.x[:, 0]), "a row was scored by an encoder that saw it"
        return Scores(x[:, 0].astype(np.float64) + 1.0, np.zeros(len(x), dtype=np.int64))


def test_is_needed_until_ten_scores_lie_beyond_the_threshold() -> None:
    """A thousand rows at 1 %, two hundred at 5 %."""
    assert is_needed(999, false_alarm_rate=0.01)
    assert not is_needed(1000, false_alarm_rate=0.01)
    assert not is_needed(200, false_alarm_rate=0.05)


def test_cross_scores_takes_every_row_once_and_moves_folds_to_the_calibration_median() -> None:
    """Rows are scored out of fold; each fold's median becomes that of the calibration scores."""
    x = np.arange(30, dtype=np.float32)[:, None]
    train = LabelledRows(x, np.zeros(30, dtype=np.int64), ("a",))
    calibration = Scores(np.array([99.0, 100.0, 101.0]), np.zeros(3, dtype=np.int64))
    found = cross_scores(calibration, train, fit_fold=lambda rows, _fold: PlusOne(rows), seed=0)  # type: ignore[arg-type,return-value]
    assert len(found.score) == 3 + 30
    folds = found.score[3:].reshape(FOLDS, 10)
    assert np.allclose(np.median(folds, axis=1), 100.0)


def test_cross_scores_leaves_classes_out_that_cannot_spare_a_row() -> None:
    """Two rows of a class stay in every fold's training."""
    labels = np.array([0] * 9 + [1] * 2)
    train = LabelledRows(np.arange(11, dtype=np.float32)[:, None], labels, ("a", "b"))
    seen: list[int] = []

    def fit_fold(rows: LabelledRows, _fold: int) -> PlusOne:
        seen.append(int((rows.labels == 1).sum()))
        return PlusOne(rows)

    calibration = Scores(np.array([1.0]), np.zeros(1, dtype=np.int64))
    found = cross_scores(calibration, train, fit_fold=fit_fold, seed=0)  # type: ignore[arg-type]
    assert seen == [2, 2, 2]
    assert len(found.score) == 1 + 9


def test_fit_on_few_rows_says_so_and_one_odd_row_does_not_set_the_threshold() -> None:
    """One corrupt calibration row among 120 would be the threshold by itself; with crossed rows it is not."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, 600)
    x = (CENTRES[labels] + rng.normal(0, 1, (600, 3))).astype(np.float32)
    x[rng.choice(600, 4, replace=False)] += 60
    config = DetectorConfig(profile="fast", embedding_dim=8, epochs=4)
    trained = api.fit(x, labels.astype(str), config=config, seed=0)
    assert {spec.method for spec in trained.thresholds} <= {"cross-conformal", "cross-conformal-pooled"}
    assert any("did not see" in note for note in trained.scorer.card.report["notes"])
    fresh = (CENTRES[rng.integers(0, 3, 3000)] + rng.normal(0, 1, (3000, 3))).astype(np.float32)
    scores = trained.scorer.score(fresh)
    limits = np.array([spec.value for spec in trained.thresholds])[scores.nearest]
    assert 0.001 < (scores.score > limits).mean() < 0.03
    far = trained.scorer.score(fresh[:50] + np.float32(25))
    assert (far.score > np.array([spec.value for spec in trained.thresholds])[far.nearest]).mean() > 0.5
