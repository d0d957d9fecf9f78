"""Leave-one-class-out: which classes by default, and the report's form."""

from __future__ import annotations

import numpy as np
import pytest

from models import api
from models.errors import EvaluationError
from models.evaluation import FIGURES, default_held_out
from tests.unit.models.blobs import blobs

FAST = api.DetectorConfig(profile="fast", epochs=5)


@pytest.mark.parametrize(
    ("labels", "counts", "expected"),
    [
        ([str(k) for k in range(10)], [900] * 10, ("0", "2", "4", "7", "9")),
        ([str(k) for k in range(26)], [750] * 26, ("0", "6", "12", "19", "25")),
        (["1", "2", "3", "4", "5", "6"], [600] * 6, ("1", "2", "3", "5", "6")),
        ([str(k) for k in range(7)], [10, 13, 3267, 50, 171, 8903, 45586], ("2", "3", "4", "5", "6")),
        (["b", "a"], [1000, 40], ("a",)),
        (["a", "b"], [10, 10], ()),
    ],
)
def test_default_held_out_is_evenly_spaced_among_classes_that_can_be(
    labels: list[str], counts: list[int], expected: tuple[str, ...]
) -> None:
    """METHOD, section 4: numbers in numeric order, rare classes never, and never the one that leaves too little."""
    assert default_held_out(labels, counts) == expected


def test_evaluate_reports_every_figure_as_a_fraction() -> None:
    """Distinct blobs are told apart; the keys are those that programs read."""
    x, y = blobs(400, n_classes=4)
    seen: list[float] = []
    report = api.evaluate(
        x, y, config=FAST, seeds=[0], held_out=["a", "c"], dataset="blobs", progress=lambda f, line: seen.append(f)
    )
    assert set(report) == {"dataset", "protocol", "seeds", "train_seconds", "mean", "per_class"}
    assert set(report["mean"]) == set(FIGURES)
    entry = report["per_class"][1]
    assert set(entry) == {"held_out", "seed", *FIGURES, "n_known", "n_unseen", "train_seconds"}
    assert (entry["held_out"], entry["seed"], entry["n_unseen"]) == ("c", 0, int((y == "c").sum()))
    assert all(0.0 <= value <= 1.0 for value in report["mean"].values())
    assert report["mean"]["auroc"] > 0.9
    assert seen == [0.5, 1.0]


def test_evaluate_refuses_when_the_class_is_not_there_or_alone() -> None:
    """With what the file has."""
    x, y = blobs(100)
    with pytest.raises(EvaluationError, match="no class z"):
        api.evaluate(x, y, config=FAST, held_out=["z"])
    with pytest.raises(EvaluationError, match="at least two classes"):
        api.evaluate(x, np.full(100, "a"), config=FAST)
