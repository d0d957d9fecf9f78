"""Fifty recalibrations in a row: the false-alarm rate stays where it belongs, whatever happens above the threshold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.api import ThresholdSpec
from models.thresholds import calibrate
from monitor.jobs import calibration
from monitor.jobs.evidence import Evidence

ALPHA, N_ROWS, N_RUNS = 0.01, 1000, 50
Policy = Callable[[NDArray[np.float64], NDArray[np.bool_], ThresholdSpec], ThresholdSpec]


@dataclass(frozen=True)
class World:
    """What the stream does.

    Attributes:
        anomalies: Share of records that are anomalies, all above the body.
        labelled: Share of normal records that get a label.
        drift: Log scale of normal scores gained by each run.
    """

    anomalies: float = 0.0
    labelled: float = 0.0
    drift: float = 0.0


def spec_of(scores: NDArray[np.float64]) -> ThresholdSpec:
    """Conformal threshold of class a."""
    return calibrate(scores, np.zeros(len(scores), np.int64), classes=("a",), alpha=ALPHA)[0]


def ours(scores: NDArray[np.float64], known: NDArray[np.bool_], current: ThresholdSpec) -> ThresholdSpec:
    """What production does."""
    rows = Evidence(scores, np.zeros(len(scores), np.int64), known, known)
    step = calibration.decide(rows, [current], alpha=ALPHA, min_samples=100, max_step_ratio=1.2)[0]
    return step.spec or current


def unflagged_only(scores: NDArray[np.float64], known: NDArray[np.bool_], current: ThresholdSpec) -> ThresholdSpec:
    """What decision 5 of README rejects."""
    return spec_of(scores[scores <= current.value])


def simulate(policy: Policy, world: World, *, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """True false-alarm rate and detection rate after each of the runs."""
    rng = np.random.default_rng(seed)
    current, reference = spec_of(rng.lognormal(0, 0.4, N_ROWS)), rng.lognormal(0, 0.4, 50_000)
    rates, detected = [], []
    for run in range(N_RUNS):
        scale = np.exp(world.drift * run)
        strange = scale * rng.lognormal(1.4, 0.4, int(N_ROWS * world.anomalies))
        scores = np.concatenate([scale * rng.lognormal(0, 0.4, N_ROWS), strange])
        known = (rng.random(len(scores)) < world.labelled) & (np.arange(len(scores)) < N_ROWS)
        current = policy(scores, known, current)
        rates.append(float((scale * reference > current.value).mean()))
        detected.append(float((strange > current.value).mean()) if len(strange) else np.nan)
    return np.array(rates), np.array(detected)


@pytest.mark.parametrize("seed", range(3))
def test_recalibration_keeps_the_false_alarm_rate_when_nothing_changes(seed: int) -> None:
    """Stationary data: near alpha on average, and the last runs no higher than the first."""
    rates, _ = simulate(ours, World(), seed=seed)

    assert rates.mean() == pytest.approx(ALPHA, abs=0.002)
    assert rates[-10:].mean() == pytest.approx(rates[:10].mean(), abs=0.004)
    assert rates.max() < 3 * ALPHA


def test_unflagged_only_ratchets_so_the_scenario_can_fail() -> None:
    """The treatment that was rejected drives the same scenario to tens of percent."""
    rates, _ = simulate(unflagged_only, World(), seed=0)

    assert rates[-1] > 20 * ALPHA


@pytest.mark.parametrize(
    "world",
    [
        World(anomalies=0.05),
        World(anomalies=0.3),
        World(anomalies=0.05, labelled=0.2),
        World(drift=0.03),
        World(drift=-0.03),
        World(drift=0.03, labelled=0.2),
        World(drift=0.03, anomalies=0.05),
    ],
    ids=str,
)
def test_recalibration_keeps_both_rates_when_anomalies_or_drift_come(world: World) -> None:
    """The false-alarm rate never runs away, and anomalies stay detected."""
    rates, detected = simulate(ours, world, seed=1)

    assert rates[-20:].mean() < 2 * ALPHA
    if world.anomalies:
        assert detected[-20:].mean() > 0.6


@given(
    body=st.floats(0.1, 10.0),
    ratio=st.floats(1.01, 3.0),
    anomalies=st.integers(0, 300),
    labelled=st.floats(0.0, 1.0),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=100, deadline=None)
def test_no_run_moves_a_threshold_further_than_allowed(
    body: float, ratio: float, anomalies: int, labelled: float, seed: int
) -> None:
    """Whatever the samples say, one step stays within the ratio, and the threshold stays positive and finite."""
    rng = np.random.default_rng(seed)
    current = spec_of(rng.lognormal(0, 0.4, 300))
    scores = np.concatenate([body * rng.lognormal(0, 0.4, 300), np.full(anomalies, 50.0 * body)])
    known = rng.random(len(scores)) < labelled
    rows = Evidence(scores, np.zeros(len(scores), np.int64), known, known)

    step = calibration.decide(rows, [current], alpha=ALPHA, min_samples=100, max_step_ratio=ratio)[0]

    assert current.value / ratio <= step.new * (1 + 1e-12)
    assert step.new <= current.value * ratio * (1 + 1e-12)
    assert 0 < step.new < np.inf
