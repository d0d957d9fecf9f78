"""What a recalibration decides, from rescored samples to thresholds. Pure: no store, no clock, no model.

Decision 5 in README: calibrate on complete samples, not on the unflagged ones.

Context: unflagged samples are cut off at the very threshold that flagged the others. Their (1 - alpha) quantile lies
below it, so each run would lower the threshold further: FPR 73 % after a while (METHOD section 5). Adding back at
most an alpha-share of the flagged is better and still one-sided: the count of false alarms scatters around its mean,
and a cap at the mean lets a threshold fall on a poor draw and never rise on a rich one (simulated: it settles 15 to
20 % above alpha), nor after drift.

Decision: samples are kept at one rate whether flagged or not, so those nearest to a class, less the known anomalies,
are a complete sample. Rescored by the champion, each class takes the first of these that applies:

1. ``labelled``: enough rows with a label of a known class. They are normal whatever their score: split conformal on
   them alone. Not when labels were given to rows *because* they were flagged (hypergeometric test): such labels are
   no random sample.
2. ``complete``: the rows above the threshold in force that nobody vouches for are no more than false alarms explain
   (99.9 % beta-binomial bound, the exact law of split conformal). Then all rows count with their own score: the
   result does not depend on the old threshold, so there is nothing to ratchet.
3. ``followed``: more than that lie above; anomalies or drift, and no label says which. The threshold follows the body
   of the class (its 30 % quantile), which a minority of anomalies hardly moves, and never passes the quantile of all
   rows. Scores are transported by the same factor, so factors of successive runs telescope and noise does not pile
   up.

Every step is limited (``limited_step``). A threshold set by hand stays until a person lets go. A class with too few
rows keeps its own.

Consequences: without labels a share of anomalies below alpha lowers detection, as in any unlabelled calibration;
whoever sends most of a class's records can walk its threshold, one limited and recorded step at a time, a minority
cannot.

Rejected: unflagged only (ratchets); flagged capped at alpha (see above); extrapolating the cut tail by a fitted law
(biased where the law is wrong, and needs more rows than a class has).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from models.api import ThresholdSpec
from models.thresholds import calibrate, kept_ranks, limited_step, needed_scores
from monitor.jobs.evidence import Evidence

#: How surprising a count must be before it is not put down to chance: rare enough for 96 runs a day, with windows
#: that overlap.
_SURPRISE = 1e-3
#: Quantile that stands for the body of a class: low, so that anomalies (all at the top) hardly move it (METHOD
#: section 5, hold).
_BODY_LEVEL = 0.3
#: Relative change below which a threshold stays as it is: less is noise, and each change is a row of up to 16 kB.
_DEAD_BAND = 0.01


@dataclass(frozen=True, slots=True)
class ClassStep:
    """What happens to the threshold of one class.

    Attributes:
        basis: ``"labelled"``, ``"complete"``, ``"followed"``, ``"manual"`` (left alone) or ``"too few"`` (left alone).
        old: Threshold in force.
        wanted: Threshold without the step limit.
        new: Threshold to use.
        n: Rows that it rests on.
        n_above: Rows above the old threshold that nobody vouches for.
        limited: Whether the step was cut short.
        spec: What to write; None where nothing changes.
    """

    class_label: str
    basis: str
    old: float
    wanted: float
    new: float
    n: int
    n_above: int
    limited: bool = False
    spec: ThresholdSpec | None = None

    def as_json(self) -> dict[str, Any]:
        """For the run's detail."""
        return {
            "basis": self.basis, "old": self.old, "wanted": self.wanted, "new": self.new, "n": self.n,
            "n_above": self.n_above, "limited": self.limited, "changed": self.spec is not None,
        }  # fmt: skip


def decide(
    evidence: Evidence,
    current: Sequence[ThresholdSpec],
    *,
    alpha: float,
    min_samples: int,
    max_step_ratio: float,
    manual: frozenset[str] = frozenset(),
) -> tuple[ClassStep, ...]:
    """The step of every class, in the order of ``current``.

    Args:
        evidence: Usable rows, newest or all alike; order does not matter.
        current: Thresholds in force, in the order of the champion's classes.
        alpha: False-alarm rate aimed at.
        min_samples: Fewest rows of a class that may move its threshold.
        max_step_ratio: Largest factor of one step, greater than 1.
        manual: Classes whose threshold a person set.
    """
    need = max(min_samples, needed_scores(alpha))
    steps = []
    for index, spec in enumerate(current):
        rows = evidence.of(evidence.nearest == index)
        if spec.class_label in manual:
            steps.append(_stay(spec, rows, basis="manual"))
        elif len(rows) < need:
            steps.append(_stay(spec, rows, basis="too few"))
        else:
            steps.append(_step(spec, rows, alpha=alpha, need=need, max_step_ratio=max_step_ratio))
    return tuple(steps)


def cause(steps: Sequence[ClassStep]) -> str:
    """One line that says why thresholds were set, for people."""
    changed = [step for step in steps if step.spec is not None]
    parts = [f"{step.class_label}: {step.basis}, {step.old:.4g} -> {step.new:.4g} on {step.n}" for step in changed]
    parts += [
        f"{step.class_label}: limited to {step.new:.4g}, the samples ask for {step.wanted:.4g}"
        for step in changed
        if step.limited
    ]
    return "; ".join(parts)


def warnings(steps: Sequence[ClassStep]) -> list[str]:
    """What a person should know: classes where labels are missing to tell drift from anomalies."""
    return [
        f"class {step.class_label}: {step.n_above} of {step.n} samples lie above its threshold, more than false alarms "
        "explain, and no label says what they are; label some (in the records, or rows in the table labels)"
        for step in steps
        if step.basis == "followed"
    ]


def shortage(steps: Sequence[ClassStep], *, need: int) -> str:
    """Why nothing could be calibrated."""
    counts: Mapping[str, int] = {step.class_label: step.n for step in steps if step.basis == "too few"}
    listed = ", ".join(f"{label}: {count}" for label, count in list(counts.items())[:10])
    return f"too few samples since the champion was trained ({listed}); a class needs {need}"


def _step(spec: ThresholdSpec, rows: Evidence, *, alpha: float, need: int, max_step_ratio: float) -> ClassStep:
    above = rows.score > spec.value
    suspicious = int((above & ~rows.vouched).sum())
    if rows.known.sum() >= need and not _labels_single_out(rows.known, above):
        basis, fresh = "labelled", _conformal(spec, rows.score[rows.known], alpha=alpha)
    elif suspicious <= explained(spec, n=len(rows)):
        basis, fresh = "complete", _conformal(spec, rows.score, alpha=alpha)
    else:
        basis, fresh = "followed", _follow(spec, rows.score, alpha=alpha)
    value, limited = limited_step(spec.value, fresh.value, max_ratio=max_step_ratio)
    moved = abs(value / spec.value - 1.0) >= _DEAD_BAND
    n_rows = int(rows.known.sum()) if basis == "labelled" else len(rows)
    return ClassStep(
        class_label=spec.class_label,
        basis=basis,
        old=spec.value,
        wanted=fresh.value,
        new=value if moved else spec.value,
        n=n_rows,
        n_above=suspicious,
        limited=limited,
        spec=replace(fresh, value=value) if moved else None,
    )


def explained(spec: ThresholdSpec, *, n: int) -> int:
    """Most of ``n`` normal rows that lie above a conformal threshold by chance (at 99.9 %).

    Source:
        With c of m calibration scores above it, the rate of a split-conformal threshold is Beta(c + 1, m - c); Vovk
        (2012), "Conditional validity of inductive conformal predictors", proposition 2a. The count is then
        beta-binomial.
    """
    m_scores = spec.n_calibration
    if m_scores < needed_scores(spec.alpha):
        return int(stats.binom.ppf(1.0 - _SURPRISE, n, spec.alpha))
    above = max(0, int(spec.alpha * (m_scores + 1)) - 1)
    return int(stats.betabinom.ppf(1.0 - _SURPRISE, n, above + 1, m_scores - above))


def _labels_single_out(labelled: NDArray[np.bool_], above: NDArray[np.bool_]) -> bool:
    """Whether labels lie on rows above the threshold more often than chance explains."""
    hits = int((labelled & above).sum())
    return bool(stats.hypergeom.sf(hits - 1, len(above), int(above.sum()), int(labelled.sum())) < _SURPRISE)


def _conformal(spec: ThresholdSpec, scores: NDArray[np.float64], *, alpha: float) -> ThresholdSpec:
    nearest = np.zeros(len(scores), dtype=np.int64)
    return calibrate(scores, nearest, classes=(spec.class_label,), alpha=alpha)[0]


def _follow(spec: ThresholdSpec, scores: NDArray[np.float64], *, alpha: float) -> ThresholdSpec:
    """The old calibration, scaled by how far the body of the class has moved."""
    if not len(spec.calibration_scores):
        return spec
    ranks = kept_ranks(spec.n_calibration, alpha=spec.alpha)[: len(spec.calibration_scores)]
    body = float(np.interp(_BODY_LEVEL * (spec.n_calibration - 1), ranks, spec.calibration_scores))
    factor = float(np.quantile(scores, _BODY_LEVEL)) / body
    above = max(0, int(alpha * (spec.n_calibration + 1)) - 1)
    reference = float(np.interp(spec.n_calibration - 1 - above, ranks, spec.calibration_scores))
    ceiling = _conformal(spec, scores, alpha=alpha).value
    return replace(spec, value=min(reference * factor, ceiling), calibration_scores=spec.calibration_scores * factor)


def _stay(spec: ThresholdSpec, rows: Evidence, *, basis: str) -> ClassStep:
    above = int(((rows.score > spec.value) & ~rows.vouched).sum())
    return ClassStep(spec.class_label, basis, spec.value, spec.value, spec.value, len(rows), above)
