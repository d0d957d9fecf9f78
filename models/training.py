"""Training rows to a calibrated detector: split, optimise, fit regions, calibrate, measure. It reads no file.

The only clock is a stopwatch for the report.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import cross_calibration
from models.class_model import class_model
from models.collapse import CollapseFigures, check_collapse, measure_collapse
from models.encoder import families
from models.errors import TrainingDataError
from models.features import Standardiser, fit_standardiser
from models.gate import pseudo_unseen_auroc
from models.optimisation import Fitted, optimise
from models.preparation import CALIBRATION_SHARE, HELD_OUT_SHARE, LabelledRows, cap_rows, prepare, split_indices
from models.regions import fit_regions
from models.scorer import PROFILES, RegionScorer
from models.thresholds import METHOD_SMALLEST, calibrate, threshold_values
from models.values import DetectorConfig, FloatArray, ModelCard, Progress, Scores, ThresholdSpec, Trained

#: Version of the artifact format that this program writes, and the highest it reads.
FORMAT_VERSION = 1
#: Training takes a random sample above this: METHOD's figures come from 8 000 rows, and time grows with rows.
MAX_TRAINING_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class Parts:
    """Training, calibration and held-out rows; they share the classes and no row."""

    train: LabelledRows
    calibration: LabelledRows
    held_out: LabelledRows


def fit(
    x: FloatArray, y: NDArray[np.str_] | None, *, config: DetectorConfig, seed: int, progress: Progress | None = None
) -> Trained:
    """Train and calibrate a detector; the documentation is with ``models.api.fit``."""
    rows = prepare(x, None if y is None else np.asarray(y))
    generator = np.random.default_rng(seed)
    train, calibration, held_out = split_indices(
        rows.labels, shares=(CALIBRATION_SHARE, HELD_OUT_SHARE), generator=generator
    )
    parts = Parts(rows.take(train), rows.take(calibration), rows.take(held_out))
    return fit_parts(parts, config=config, seed=seed, progress=progress, cross=True)


def fit_parts(
    parts: Parts,
    *,
    config: DetectorConfig,
    seed: int,
    progress: Progress | None = None,
    max_rows: int = MAX_TRAINING_ROWS,
    cross: bool = False,
) -> Trained:
    """Train on rows that are split already, for protocols that choose the split.

    Args:
        parts: Training, calibration and held-out rows.
        config: How to build the detector.
        seed: Seed of everything random.
        progress: Called during training.
        max_rows: Training rows above this are sampled down.
        cross: Calibrate on out-of-fold scores of the training rows too, where calibration rows are few.

    Raises:
        TrainingDataError: A configuration this version cannot build.
        CollapseError: The encoder tells nothing apart.
    """
    _check_config(config)
    started = time.perf_counter()
    report = progress or _ignore
    train = parts.train.take(cap_rows(parts.train.labels, limit=max_rows, generator=np.random.default_rng(seed)))
    crossed = cross and cross_calibration.is_needed(len(parts.calibration.x), false_alarm_rate=config.false_alarm_rate)
    runs = 1 + crossed * cross_calibration.FOLDS
    scorer, losses = _train(train, parts, config=config, seed=seed, progress=_part(report, 0, runs))
    calibration = scorer.score(parts.calibration.x)
    if crossed:
        calibration = cross_calibration.cross_scores(
            calibration,
            train,
            seed=seed,
            fit_fold=lambda rows, fold: _train(
                rows, parts, config=config, seed=seed, progress=_part(report, 1 + fold, runs)
            )[0],
        )
    report(0.95, "calibrating and measuring")
    return _finish(scorer, losses, parts, calibration=calibration, crossed=crossed, seed=seed, started=started)


def _train(
    train: LabelledRows, parts: Parts, *, config: DetectorConfig, seed: int, progress: Progress
) -> tuple[RegionScorer, tuple[float, ...]]:
    """Encoder and regions of the training rows, and the losses on the way."""
    standardiser = fit_standardiser(train.x)
    inputs, labels = standardiser(torch.from_numpy(train.x)), torch.from_numpy(train.labels)
    fitted = optimise(
        inputs,
        labels,
        n_classes=len(train.classes),
        config=config,
        generator=torch.Generator().manual_seed(seed),
        progress=progress,
    )
    card = _card(train, parts, config=config, seed=seed)
    return build_scorer(fitted, standardiser, inputs, labels, card=card), fitted.losses


def _part(report: Progress, run: int, runs: int) -> Progress:
    """Progress of one of several encoders, as progress of the whole."""
    name = "" if runs == 1 else f"encoder {run + 1} of {runs}, "
    return lambda fraction, line: report(0.95 * (run + fraction) / runs, name + line)


def build_scorer(
    fitted: Fitted, standardiser: Standardiser, inputs: Tensor, labels: Tensor, *, card: ModelCard
) -> RegionScorer:
    """Fit regions on the training rows' network inputs (N, D) and put the scorer together."""
    n_classes = len(card.classes)
    profile = PROFILES[card.config.profile]
    with torch.no_grad():
        hidden, embedding = fitted.encoder.layers(inputs)
        layers = torch.cat((*(hidden[layer] for layer in profile.layers), embedding), dim=1)
    regions = fit_regions(layers, labels, n_classes=n_classes, directions=profile.directions)
    centres = torch.stack([inputs[labels == k].mean(0) for k in range(n_classes)])
    return RegionScorer(card, standardiser, fitted.encoder, class_model(fitted.centres), regions, centres)


def _finish(
    scorer: RegionScorer,
    losses: tuple[float, ...],
    parts: Parts,
    *,
    calibration: Scores,
    crossed: bool,
    seed: int,
    started: float,
) -> Trained:
    alpha = scorer.card.config.false_alarm_rate
    thresholds = calibrate(calibration.score, calibration.nearest, classes=scorer.card.classes, alpha=alpha)
    if crossed:
        thresholds = tuple(replace(spec, method=f"cross-{spec.method}") for spec in thresholds)
    figures = measure_collapse(scorer, parts.calibration, seed=seed)
    check_collapse(figures)
    metrics = _metrics(scorer, thresholds, parts, figures)
    seconds = time.perf_counter() - started
    metrics["seconds"] = seconds
    notes = [*parts.train.notes, *_calibration_notes(thresholds, asked=alpha)]
    report = {"losses": list(losses), "epochs": len(losses), "seconds": seconds, "notes": notes}
    card = replace(scorer.card, metrics=metrics, report=report, n_calibration=len(calibration.score))
    return Trained(replace(scorer, card=card), thresholds)


def _metrics(
    scorer: RegionScorer, thresholds: tuple[ThresholdSpec, ...], parts: Parts, figures: CollapseFigures
) -> dict[str, float]:
    held_out = parts.held_out if len(parts.held_out.x) else parts.calibration
    scores = scorer.score(held_out.x)
    flagged = scores.score > threshold_values(scores.nearest, thresholds)
    return {
        "accuracy": float((scores.nearest == held_out.labels).mean()),
        "false_alarm_rate": float(flagged.mean()),
        "pseudo_unseen_auroc": pseudo_unseen_auroc(scorer, held_out.x, held_out.labels),
        "score_diversity": figures.score_diversity,
        "effective_rank": figures.effective_rank,
        "random_init_accuracy": figures.random_accuracy,
        "n_held_out": float(len(held_out.x)),
    }


def _calibration_notes(thresholds: tuple[ThresholdSpec, ...], *, asked: float) -> list[str]:
    pooled = [spec.class_label for spec in thresholds if not spec.method.endswith("conformal")]
    smallest = [spec for spec in thresholds if spec.method.endswith(METHOD_SMALLEST)]
    notes = []
    if pooled:
        notes.append(
            f"{len(pooled)} of {len(thresholds)} classes have too few calibration rows and share one threshold."
        )
    if thresholds[0].method.startswith("cross-"):
        notes.append(
            "Calibration rows are few, so training rows calibrate too, each scored by an encoder that did not see it."
        )
    if smallest:
        notes.append(
            f"{smallest[0].n_calibration} calibration rows keep a false-alarm rate of {smallest[0].alpha:.3g} at best; "
            f"{asked:g} was asked for. Bring more rows to reach it."
        )
    return notes


def _card(train: LabelledRows, parts: Parts, *, config: DetectorConfig, seed: int) -> ModelCard:
    return ModelCard(
        format_version=FORMAT_VERSION,
        classes=train.classes,
        dimension=train.x.shape[1],
        config=config,
        seed=seed,
        n_train=len(train.x),
        n_calibration=len(parts.calibration.x),
    )


def _check_config(config: DetectorConfig) -> None:
    if config.encoder not in families():
        raise TrainingDataError(f'There is no encoder "{config.encoder}"; use one of {sorted(families())}.')
    if config.profile not in PROFILES:
        raise TrainingDataError(f'There is no profile "{config.profile}"; use one of {sorted(PROFILES)}.')
    if config.embedding_dim < 1 or config.epochs < 1 or not 0 < config.false_alarm_rate < 0.5:
        raise TrainingDataError(
            "The detector needs embedding_dim >= 1, epochs >= 1 and a false_alarm_rate between 0 and 0.5; "
            f"got {config.embedding_dim}, {config.epochs}, {config.false_alarm_rate}."
        )


def _ignore(_fraction: float, _line: str) -> None:
    """Progress that nobody listens to."""
