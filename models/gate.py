"""Champion or candidate? Figures of both on the same recent rows, and a pure decision. It promotes nothing itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.diversity import collapse_reason, effective_rank, score_diversity
from models.ranking import auroc
from models.thresholds import threshold_values
from models.values import FloatArray, IntArray, ThresholdSpec

if TYPE_CHECKING:
    from models.scorer import RegionScorer, Shortlist


@dataclass(frozen=True, slots=True)
class GateFigures:
    """What a version does on recent labelled rows; rates and AUROC as fractions, NaN where nothing could be measured.

    Attributes:
        accuracy: Share of rows of known classes whose nearest class is their label.
        false_alarm_rate: Share of rows of known classes that the thresholds flag.
        pseudo_unseen_auroc: AUROC of each known class's rows against the others when its region is left out, mean over
            classes.
        score_diversity: Distinct scores over distinct rows.
        effective_rank: Effective rank of the embedding.
        n_rows: Rows of known classes measured.
        n_not_finite: Scores that are NaN or infinite.
    """

    accuracy: float
    false_alarm_rate: float
    pseudo_unseen_auroc: float
    score_diversity: float
    effective_rank: float
    n_rows: int
    n_not_finite: int = 0


@dataclass(frozen=True, slots=True)
class GateTolerance:
    """How much worse than the champion a candidate may be, in fractions, and the absolute limits.

    Attributes:
        accuracy: Allowed loss of accuracy.
        false_alarm_rate: Allowed rise of the false-alarm rate.
        pseudo_unseen_auroc: Allowed loss of AUROC.
        max_false_alarm_rate: Highest false-alarm rate of any candidate; a champion that is worse itself sets the limit
            instead.
        min_pseudo_unseen_auroc: Lowest AUROC of a first version, which has no champion to be compared with.
        min_rows: Fewest rows that decide anything.
    """

    accuracy: float = 0.02
    false_alarm_rate: float = 0.01
    pseudo_unseen_auroc: float = 0.02
    max_false_alarm_rate: float = 0.10
    min_pseudo_unseen_auroc: float = 0.55
    min_rows: int = 50


@dataclass(frozen=True, slots=True)
class GateDecision:
    """The decision, a plain sentence for each reason against the candidate (or one for it), and the figures."""

    passed: bool
    reasons: tuple[str, ...]
    figures: dict[str, dict[str, float] | None]


def decide(champion: GateFigures | None, candidate: GateFigures, *, tolerance: GateTolerance) -> GateDecision:
    """May the candidate replace the champion?

    Args:
        champion: Figures of the version in service on the same rows; None when there is none.
        candidate: Figures of the new version.
        tolerance: How much worse it may be.

    Returns:
        The decision; every failed check is named.
    """
    reasons = [*_soundness(candidate, tolerance), *_limits(champion, candidate, tolerance)]
    if champion is not None:
        reasons += _comparison(champion, candidate, tolerance)
    figures: dict[str, dict[str, float] | None] = {
        "champion": asdict(champion) if champion else None,
        "candidate": asdict(candidate),
    }
    if reasons:
        return GateDecision(passed=False, reasons=tuple(reasons), figures=figures)
    return GateDecision(passed=True, reasons=(_praise(champion, candidate),), figures=figures)


def measure(
    scorer: RegionScorer, thresholds: Sequence[ThresholdSpec], x: FloatArray, labels: NDArray[np.str_]
) -> GateFigures:
    """Figures of one version on labelled rows; rows of classes it does not know (or without a label) are left out.

    Args:
        scorer: The version.
        thresholds: Its thresholds in force.
        x: Recent rows (N, D).
        labels: Labels (N,).

    Raises:
        ScoringInputError: Rows it cannot score.
    """
    position = {label: index for index, label in enumerate(scorer.card.classes)}
    known = np.array([str(label) in position for label in labels], dtype=bool)
    rows = np.asarray(x)[known]
    truth = np.array([position[str(label)] for label in labels[known]], dtype=np.int64)
    if not len(rows):
        return GateFigures(math.nan, math.nan, math.nan, math.nan, math.nan, n_rows=0)
    scores = scorer.score(rows)
    nearest, score = scores.nearest, scores.score
    return GateFigures(
        accuracy=float((nearest == truth).mean()),
        false_alarm_rate=float((score > threshold_values(nearest, thresholds)).mean()),
        pseudo_unseen_auroc=pseudo_unseen_auroc(scorer, rows, truth),
        score_diversity=score_diversity(score, rows.astype(np.float32)),
        effective_rank=effective_rank(scorer.embed(rows)),
        n_rows=len(rows),
        n_not_finite=int((~np.isfinite(score)).sum()),
    )


def pseudo_unseen_auroc(scorer: RegionScorer, x: FloatArray, labels: IntArray) -> float:
    """Would a class be caught if the detector had no region for it? Needs no second training.

    For each known class with rows: the class is left out, its rows are positive, all others negative; mean AUROC over
    classes.

    Args:
        scorer: The version.
        x: Rows (N, D).
        labels: Class index (N,).

    Returns:
        A fraction; NaN for fewer than two classes.
    """
    present = np.unique(labels)
    if len(present) < 2:
        return math.nan
    # Without one class, the shortlist is what is left of a shortlist one longer.
    shortlist = scorer.shortlist(x, length=scorer.profile.shortlist + 1)
    results = []
    for index in present:
        score = _score_without(shortlist, int(index), length=scorer.profile.shortlist)
        results.append(auroc(score[labels != index], score[labels == index]))
    return float(np.mean(results))


def _score_without(shortlist: Shortlist, index: int, *, length: int) -> NDArray[np.float32]:
    """Distance to the nearest of the first ``length`` regions when class ``index`` is not there, (B,)."""
    others = shortlist.classes != index
    used = others & (np.cumsum(others, axis=1) <= length)
    distance: NDArray[np.float32] = np.where(used, shortlist.distances, np.float32(np.inf)).min(axis=1)
    return distance


def _soundness(candidate: GateFigures, tolerance: GateTolerance) -> list[str]:
    if candidate.n_rows < tolerance.min_rows:
        return [f"Only {candidate.n_rows} labelled rows to judge by; at least {tolerance.min_rows} are needed."]
    reasons = []
    if candidate.n_not_finite:
        reasons.append(f"{candidate.n_not_finite} of {candidate.n_rows} scores are not finite; none may be.")
    collapse = collapse_reason(candidate.score_diversity, candidate.effective_rank)
    return [*reasons, collapse] if collapse else reasons


def _limits(champion: GateFigures | None, candidate: GateFigures, tolerance: GateTolerance) -> list[str]:
    limit = max(tolerance.max_false_alarm_rate, champion.false_alarm_rate if champion else 0.0)
    reasons = []
    if candidate.false_alarm_rate > limit:
        reasons.append(f"The false-alarm rate is {candidate.false_alarm_rate:.2%}; the limit is {limit:.2%}.")
    if champion is None and candidate.pseudo_unseen_auroc < tolerance.min_pseudo_unseen_auroc:
        reasons.append(
            f"AUROC on left-out known classes is {candidate.pseudo_unseen_auroc:.3f}; at least "
            f"{tolerance.min_pseudo_unseen_auroc:.3f} is needed."
        )
    return reasons


def _comparison(champion: GateFigures, candidate: GateFigures, tolerance: GateTolerance) -> list[str]:
    reasons = []
    if candidate.accuracy < champion.accuracy - tolerance.accuracy:
        reasons.append(
            f"Accuracy is {candidate.accuracy:.2%} against the champion's {champion.accuracy:.2%}; "
            f"at most {tolerance.accuracy:.2%} may be lost."
        )
    if candidate.false_alarm_rate > champion.false_alarm_rate + tolerance.false_alarm_rate:
        reasons.append(
            f"The false-alarm rate is {candidate.false_alarm_rate:.2%} against the champion's "
            f"{champion.false_alarm_rate:.2%}; it may rise by at most {tolerance.false_alarm_rate:.2%}."
        )
    if candidate.pseudo_unseen_auroc < champion.pseudo_unseen_auroc - tolerance.pseudo_unseen_auroc:
        reasons.append(
            f"AUROC on left-out known classes is {candidate.pseudo_unseen_auroc:.3f} against the champion's "
            f"{champion.pseudo_unseen_auroc:.3f}; at most {tolerance.pseudo_unseen_auroc:.3f} may be lost."
        )
    return reasons


def _praise(champion: GateFigures | None, candidate: GateFigures) -> str:
    if champion is None:
        return f"There is no champion; the candidate is sound on {candidate.n_rows} rows."
    return (
        f"On {candidate.n_rows} rows accuracy is {candidate.accuracy:.2%} (champion {champion.accuracy:.2%}), "
        f"false-alarm rate {candidate.false_alarm_rate:.2%} ({champion.false_alarm_rate:.2%}), "
        f"AUROC on left-out known classes {candidate.pseudo_unseen_auroc:.3f} "
        f"({champion.pseudo_unseen_auroc:.3f}): within tolerance."
    )
