"""What a recalibration decides, on scores whose quantiles can be counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from models.api import ThresholdSpec
from models.thresholds import calibrate
from monitor.jobs import calibration
from monitor.jobs.calibration import ClassStep
from monitor.jobs.evidence import Evidence, trustworthy


def spec(scores: NDArray[np.float64], *, alpha: float = 0.1) -> ThresholdSpec:
    """Conformal threshold of class a."""
    return calibrate(scores, np.zeros(len(scores), np.int64), classes=("a",), alpha=alpha)[0]


def evidence(scores: NDArray[np.float64], *, known: NDArray[np.bool_] | None = None) -> Evidence:
    """Rows of class a."""
    marked = np.zeros(len(scores), bool) if known is None else known
    return Evidence(scores, np.zeros(len(scores), np.int64), marked, marked)


def step(rows: Evidence, current: ThresholdSpec, **changes: object) -> ClassStep:
    """The decision on class a."""
    options = {"alpha": 0.1, "min_samples": 50, "max_step_ratio": 1.2} | changes
    return calibration.decide(rows, [current], **options)[0]  # type: ignore[arg-type]


BASE = np.linspace(1.0, 2.0, 199)


def test_decide_takes_all_rows_when_chance_explains_those_above() -> None:
    """The new threshold is the conformal quantile of all rows, flagged or not."""
    found = step(evidence(BASE * 1.05), spec(BASE))

    assert found.basis == "complete"
    assert found.new == spec(BASE * 1.05).value
    assert not found.limited


def test_decide_limits_the_step_when_samples_ask_for_more() -> None:
    """Half the scores ask for half the threshold; one run grants a factor of 1.2."""
    found = step(evidence(BASE / 2), spec(BASE))

    assert found.limited
    assert found.new == pytest.approx(found.old / 1.2)
    assert found.wanted == pytest.approx(found.old / 2)
    assert found.spec is not None
    assert "limited to" in calibration.cause([found])


def test_decide_stays_on_labels_when_anomalies_lie_above() -> None:
    """Labelled rows alone decide, however many unlabelled ones lie above."""
    scores = np.concatenate([BASE * 1.05, np.full(60, 9.0)])
    known = np.arange(len(scores)) < len(BASE)

    found = step(evidence(scores, known=known), spec(BASE))

    assert found.basis == "labelled"
    assert found.new == spec(BASE * 1.05).value
    assert found.n == len(BASE)


def test_decide_does_not_follow_a_burst_of_anomalies_when_the_body_stays() -> None:
    """A quarter of anomalies leaves the body, and so the threshold, where it is."""
    scores = np.concatenate([BASE, np.full(60, 9.0)])

    found = step(evidence(scores), spec(BASE))

    assert found.basis == "followed"
    assert abs(found.new / found.old - 1) < 0.08
    assert calibration.warnings([found])


def test_decide_follows_drift_over_several_runs_when_each_step_is_limited() -> None:
    """The whole shift arrives, one limited step at a time, because the wanted calibration is kept."""
    current, drifted = spec(BASE), BASE * 1.4
    for _ in range(4):
        current = step(evidence(drifted), current).spec or current

    assert current.value == pytest.approx(spec(drifted).value, rel=0.05)


def test_decide_does_not_trust_labels_when_they_single_out_flagged_rows() -> None:
    """Labels given only to what was flagged are no random sample of the class."""
    scores = np.concatenate([BASE, BASE[-30:]])
    known = scores > spec(BASE).value

    found = step(evidence(scores, known=known), spec(BASE), min_samples=20)

    assert found.basis == "complete"


@pytest.mark.parametrize(("rows", "manual", "basis"), [(BASE[:40], False, "too few"), (BASE / 2, True, "manual")])
def test_decide_leaves_a_threshold_alone_when_it_must(rows: NDArray[np.float64], manual: bool, basis: str) -> None:
    """Too few rows, or a person's word, keep the threshold."""
    found = step(evidence(rows), spec(BASE), manual=frozenset({"a"} if manual else ()))

    assert (found.basis, found.new, found.spec) == (basis, spec(BASE).value, None)


def test_decide_writes_nothing_when_the_change_is_noise() -> None:
    """Less than one percent is not worth a row."""
    found = step(evidence(BASE * 1.004), spec(BASE))

    assert found.spec is None
    assert found.new == found.old


def test_decide_judges_each_class_by_its_own_rows() -> None:
    """Rows of one class never move the other."""
    scores = np.concatenate([BASE * 1.1, BASE])
    nearest = np.repeat(np.array([0, 1]), len(BASE))
    none = np.zeros(len(scores), bool)
    current = [spec(BASE), replace(spec(BASE), class_label="b")]

    first, second = calibration.decide(
        Evidence(scores, nearest, none, none), current, alpha=0.1, min_samples=50, max_step_ratio=1.2
    )

    assert first.new == pytest.approx(1.1 * first.old)
    assert second.new == second.old


def test_explained_is_the_binomial_bound_when_the_threshold_has_no_scores() -> None:
    """A threshold without calibration scores is taken at its word: 1 % of 1000 rows is hardly ever more than 21."""
    bare = ThresholdSpec("a", 2.0, 0.01, 0, "manual", np.empty(0))

    assert calibration.explained(bare, n=1000) == 21


def test_explained_is_wider_when_the_calibration_was_small() -> None:
    """A threshold from few scores may be off itself."""
    rng = np.random.default_rng(0)
    small, large = spec(rng.random(99), alpha=0.01), spec(rng.random(9999), alpha=0.01)

    assert calibration.explained(small, n=1000) > calibration.explained(large, n=1000) >= 20


@pytest.mark.parametrize(
    ("label", "verdict", "expected"),
    [
        (None, None, (True, False, False)),
        ("a", None, (True, True, True)),
        ("z", None, (False, False, False)),
        (None, "not_anomaly", (True, False, True)),
        ("z", "new_normal", (True, False, True)),
        (None, "anomaly", (False, False, False)),
        ("a", "expected", (False, True, True)),
    ],
)
def test_trustworthy_says_what_a_label_and_a_verdict_mean(
    label: str | None, verdict: str | None, expected: tuple[bool, bool, bool]
) -> None:
    """(usable, known, vouched) of one row."""
    usable, known, vouched = trustworthy([label], [verdict], classes=["a", "b"])

    assert (bool(usable[0]), bool(known[0]), bool(vouched[0])) == expected


def test_shortage_names_the_numbers() -> None:
    """A person sees how many there are and how many it takes."""
    found = step(evidence(BASE[:40]), spec(BASE))

    assert calibration.shortage([found], need=50) == (
        "too few samples since the champion was trained (a: 40); a class needs 50"
    )
