"""The gate: pure decisions on given figures, then two trained candidates."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from models import api
from models.gate import GateFigures, GateTolerance, decide, measure
from tests.unit.models.blobs import blobs

GOOD = GateFigures(
    accuracy=0.97,
    false_alarm_rate=0.01,
    pseudo_unseen_auroc=0.95,
    score_diversity=1.0,
    effective_rank=5.0,
    n_rows=500,
)
TOLERANCE = GateTolerance()


def test_decide_passes_when_equal() -> None:
    """And says so in one sentence with both figures."""
    decision = decide(GOOD, GOOD, tolerance=TOLERANCE)
    assert decision.passed
    assert "97.00% (champion 97.00%)" in decision.reasons[0]
    assert decision.figures["champion"] == decision.figures["candidate"]


def test_decide_passes_a_first_version_when_it_is_sound() -> None:
    """There is nothing to compare it with."""
    assert decide(None, GOOD, tolerance=TOLERANCE).passed


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"accuracy": 0.94}, "Accuracy is 94.00% against the champion's 97.00%"),
        ({"false_alarm_rate": 0.03}, "3.00% against the champion's 1.00%"),
        ({"false_alarm_rate": 0.2}, "the limit is 10.00%"),
        ({"pseudo_unseen_auroc": 0.9}, "0.900 against the champion's 0.950"),
        ({"score_diversity": 0.01}, "collapsed"),
        ({"effective_rank": 1.0}, "collapsed"),
        ({"n_not_finite": 3}, "3 of 500 scores are not finite"),
        ({"n_rows": 10}, "Only 10 labelled rows"),
    ],
)
def test_decide_refuses_with_both_numbers_when_one_figure_is_bad(change: dict[str, float], sentence: str) -> None:
    """Each check on its own."""
    decision = decide(GOOD, replace(GOOD, **change), tolerance=TOLERANCE)
    assert not decision.passed
    assert any(sentence in reason for reason in decision.reasons)


def test_decide_tolerates_small_losses() -> None:
    """Within every tolerance at once."""
    slightly = replace(GOOD, accuracy=0.96, false_alarm_rate=0.015, pseudo_unseen_auroc=0.94)
    assert decide(GOOD, slightly, tolerance=TOLERANCE).passed


def test_decide_lets_a_candidate_repair_a_bad_champion() -> None:
    """After drift both are above the absolute limit; better than the champion is good enough."""
    assert decide(replace(GOOD, false_alarm_rate=0.5), replace(GOOD, false_alarm_rate=0.2), tolerance=TOLERANCE).passed


def test_decide_does_not_stumble_over_what_could_not_be_measured() -> None:
    """One class has no AUROC."""
    one_class = replace(GOOD, pseudo_unseen_auroc=math.nan)
    assert decide(one_class, one_class, tolerance=TOLERANCE).passed
    assert decide(None, one_class, tolerance=TOLERANCE).passed


def test_measure_leaves_out_rows_of_classes_that_are_not_known(trained: api.Trained) -> None:
    """Only a, b and c count."""
    x, y = blobs(300, seed=7)
    labels = y.astype("<U8")
    labels[:100] = "other"
    figures = measure(trained.scorer, trained.thresholds, x, labels)
    assert figures.n_rows == 200
    assert figures.accuracy > 0.98
    assert figures.pseudo_unseen_auroc > 0.95


def test_measure_of_no_known_rows_never_passes(trained: api.Trained) -> None:
    """NaN figures, and too few rows to decide."""
    figures = measure(trained.scorer, trained.thresholds, np.zeros((3, 6), dtype=np.float32), np.array(["x"] * 3))
    assert math.isnan(figures.accuracy)
    assert not decide(None, figures, tolerance=TOLERANCE).passed


def test_gate_rejects_shuffled_labels_and_passes_an_honest_retraining(trained: api.Trained) -> None:
    """The scenario that it is for, on the same recent rows."""
    x, y = blobs(900, seed=11)
    recent, labels = blobs(400, seed=12)
    config = api.DetectorConfig(profile="fast", epochs=10)
    champion = measure(trained.scorer, trained.thresholds, recent, labels)
    honest = api.fit(x, y, config=config, seed=1)
    assert decide(champion, measure(honest.scorer, honest.thresholds, recent, labels), tolerance=TOLERANCE).passed
    shuffled = api.fit(x, np.random.default_rng(0).permutation(y), config=config, seed=1)
    decision = decide(champion, measure(shuffled.scorer, shuffled.thresholds, recent, labels), tolerance=TOLERANCE)
    assert not decision.passed
    assert "Accuracy" in decision.reasons[0]
