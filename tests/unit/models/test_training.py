"""Training end to end on small rows: what it promises, what it refuses, what it notes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models import api
from models.errors import ScoringInputError, TrainingCancelled, TrainingDataError
from models.explain import region_score
from tests.unit.models.blobs import blobs

FAST = api.DetectorConfig(profile="fast", epochs=3)


def notes(trained: api.Trained) -> str:
    """All notes of a run in one string."""
    return " ".join(trained.scorer.card.report["notes"])


def test_fit_knows_the_classes_and_flags_what_is_far(trained: api.Trained) -> None:
    """Three clean blobs are named right; a row far from all of them is flagged."""
    x, y = blobs(300, seed=5)
    scores = trained.scorer.score(x)
    assert (np.array(trained.scorer.card.classes)[scores.nearest] == y).mean() > 0.98
    far = trained.scorer.score(np.full((1, 6), 40.0, dtype=np.float32))
    assert far.score[0] > trained.thresholds[far.nearest[0]].value


def test_fit_reports_what_the_gate_and_people_need(trained: api.Trained) -> None:
    """Figures are fractions, free of NaN."""
    card = trained.scorer.card
    names = {"accuracy", "false_alarm_rate", "pseudo_unseen_auroc", "score_diversity", "effective_rank", "seconds"}
    assert names <= set(card.metrics)
    assert all(np.isfinite(value) for value in card.metrics.values())
    assert card.metrics["accuracy"] > 0.95
    assert [spec.class_label for spec in trained.thresholds] == list(card.classes)


def test_fit_is_the_same_when_the_seed_is_the_same_and_leaves_global_randomness_alone() -> None:
    """Bit-identical scores; torch's and numpy's global states untouched."""
    x, y = blobs(200)
    before = (torch.get_rng_state(), np.random.get_state()[1].copy())  # noqa: NPY002 - the state that must not move
    first = api.fit(x, y, config=FAST, seed=3).scorer.score(x).score
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002 - the state that must not move
    torch.manual_seed(99)
    assert first.tobytes() == api.fit(x, y, config=FAST, seed=3).scorer.score(x).score.tobytes()
    assert first.tobytes() != api.fit(x, y, config=FAST, seed=4).scorer.score(x).score.tobytes()


def test_fit_works_when_there_is_one_class() -> None:
    """One region, pure compactness; accuracy is 1, no figure but AUROC is missing."""
    x, _ = blobs(200, n_classes=1)
    trained = api.fit(x, np.full(200, "only"), config=FAST, seed=0)
    assert trained.scorer.card.classes == ("only",)
    assert trained.scorer.card.metrics["accuracy"] == 1.0
    assert trained.scorer.score(x[:1] + 30).score > trained.thresholds[0].value


@pytest.mark.parametrize("labels", [None, np.full(200, "")])
def test_fit_takes_all_rows_as_one_class_when_there_are_no_labels(labels: np.ndarray | None) -> None:
    """Stated in the notes."""
    trained = api.fit(blobs(200)[0], labels, config=FAST, seed=0)
    assert trained.scorer.card.classes == ("normal",)
    assert "no labels" in notes(trained)


def test_fit_leaves_rows_out_and_says_so_when_they_cannot_be_used() -> None:
    """NaN rows, unlabelled rows, a class of two rows and a constant column, each with a note."""
    x, y = blobs(300)
    y = y.astype("<U8")
    x[:5, 0] = np.nan
    x[:, 3] = 2.0
    x[:5, 3] = 2.0
    y[5:15] = ""
    y[15:17] = "rare"
    trained = api.fit(x, y, config=FAST, seed=0)
    assert trained.scorer.card.classes == ("a", "b", "c")
    for part in ("5 rows with NaN", "10 rows without a label", "dropped: rare", "1 constant columns carry nothing: 3"):
        assert part in notes(trained)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((30, 2)), np.array([str(i) for i in range(30)]), "No class has 3 rows"),
        (np.zeros((6, 2)), np.array(["a"] * 6), "at least 20"),
        (np.zeros((0, 2)), np.zeros(0, dtype="<U1"), "at least 20"),
        (np.full((30, 2), np.nan), np.array(["a"] * 30), "NaN or infinity"),
        (np.zeros((30, 2)), np.array(["a"] * 29), "30 rows but 29 labels"),
        (np.zeros(30), np.array(["a"] * 30), "must be a matrix"),
        (np.array([["x"]] * 30), np.array(["a"] * 30), "must be numbers"),
    ],
)
def test_fit_refuses_rows_with_a_remedy_when_nothing_can_be_learned(x: np.ndarray, y: np.ndarray, message: str) -> None:
    """Always a TrainingDataError, never an error of something below."""
    with pytest.raises(TrainingDataError, match=message):
        api.fit(x, y, config=FAST, seed=0)


@pytest.mark.parametrize(
    "config", [{"encoder": "cnn"}, {"profile": "best"}, {"epochs": 0}, {"embedding_dim": 0}, {"false_alarm_rate": 0.7}]
)
def test_fit_refuses_a_configuration_that_it_cannot_build(config: dict[str, object]) -> None:
    """Before any work."""
    x, y = blobs(60)
    with pytest.raises(TrainingDataError):
        api.fit(x, y, config=api.DetectorConfig(**config), seed=0)  # type: ignore[arg-type]


def test_fit_reports_progress_and_stops_when_the_caller_raises() -> None:
    """Fractions rise from 0 to 1; an exception of the caller passes through."""
    x, y = blobs(200)
    fractions: list[float] = []
    api.fit(x, y, config=FAST, seed=0, progress=lambda fraction, line: fractions.append(fraction))
    assert fractions == sorted(fractions)
    assert 0 < fractions[0] < fractions[-1] <= 1.0

    def cancel(fraction: float, line: str) -> None:
        raise TrainingCancelled

    with pytest.raises(TrainingCancelled, match="nothing was written"):
        api.fit(x, y, config=FAST, seed=0, progress=cancel)


def test_score_refuses_rows_when_the_width_differs_or_they_hold_nan(trained: api.Trained) -> None:
    """Infinity is a very large value; NaN is no value."""
    with pytest.raises(ScoringInputError, match="6 features"):
        trained.scorer.score(np.zeros((2, 5), dtype=np.float32))
    with pytest.raises(ScoringInputError, match="NaN"):
        trained.scorer.score(np.full((1, 6), np.nan, dtype=np.float32))
    assert np.isfinite(trained.scorer.score(np.full((1, 6), np.inf, dtype=np.float32)).score).all()


@pytest.mark.parametrize("profile", ["trained", "trained_full"])
def test_explain_sums_to_the_excess_over_the_class_mean(profile: str, request: pytest.FixtureRequest) -> None:
    """Stated tolerance: 1e-3, for rows far from every class."""
    scorer = request.getfixturevalue(profile).scorer
    x, _ = blobs(40, seed=9)
    x[:, 2] += 25.0
    scores = scorer.score(x)
    contributions = scorer.explain(x, scores.nearest)
    assert contributions.shape == x.shape
    inputs = scorer.standardiser(torch.from_numpy(x))
    shortlist = scorer.shortlist(x, length=scorer.profile.shortlist)
    region = torch.from_numpy(np.take_along_axis(shortlist.classes, shortlist.distances.argmin(1)[:, None], 1)[:, 0])
    baseline = region_score(scorer, scorer.centres[region], region).numpy()
    assert np.abs(region_score(scorer, inputs, region).numpy() - scores.score).max() < 1e-3
    assert np.abs(contributions.sum(1) - (scores.score - baseline)).max() < 1e-3


def test_explain_points_at_the_feature_that_was_moved() -> None:
    """One class, rows moved along feature 2."""
    x, _ = blobs(200, n_classes=1)
    scorer = api.fit(x, None, config=FAST, seed=0).scorer
    moved = x[:20] + np.array([0, 0, 15, 0, 0, 0], dtype=np.float32)
    contributions = scorer.explain(moved, scorer.score(moved).nearest)
    assert (np.abs(contributions).argmax(axis=1) == 2).mean() > 0.8
