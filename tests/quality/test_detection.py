"""Floors of detection quality: digits always, the five evaluation sets where ``NARROWS_DATA_DIR`` says they are."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from models import api
from models.evaluation import evaluate_one
from tests.quality.table import read_set

#: Set: (class left out, floor of AUROC in percent at seed 0, full profile); a few points below what was measured.
FLOORS = {
    "gas": ("3", 96.0),
    "letter": ("12", 96.0),
    "mnist10k": ("0", 92.0),
    "satimage": ("1", 93.0),
    "shuttle": ("5", 97.0),
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("profile", ["full", "fast"])
def test_digits_that_were_never_seen_rank_above_known_ones(profile: str) -> None:
    """Three digits left out in turn: AUROC, accuracy and false alarms."""
    digits = load_digits()
    report = api.evaluate(
        digits.data.astype(np.float32),
        digits.target.astype(np.str_),
        config=api.DetectorConfig(profile=profile),
        held_out=["1", "4", "7"],
        seeds=[0],
        dataset="digits",
    )
    assert report["mean"]["auroc"] >= 0.96
    assert report["mean"]["id_accuracy"] >= 0.96
    assert report["mean"]["false_alarm_rate"] <= 0.03


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FLOORS))
@pytest.mark.skipif("NARROWS_DATA_DIR" not in os.environ, reason="NARROWS_DATA_DIR does not name the evaluation sets")
def test_an_unseen_class_ranks_above_known_ones_on_the_evaluation_sets(name: str) -> None:
    """One class of each set, seed 0."""
    label, floor = FLOORS[name]
    rows = read_set(Path(os.environ["NARROWS_DATA_DIR"]), name)
    entry = evaluate_one(rows, label, config=api.DetectorConfig(), seed=0)
    assert 100 * entry["auroc"] >= floor
    assert entry["false_alarm_rate"] <= 0.05
