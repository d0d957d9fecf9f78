"""The table of the five evaluation sets: ``NARROWS_DATA_DIR=... python -m tests.quality.table [--seeds 0]``.

Every finished entry is kept in ``--state`` (JSON lines), so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.api import DetectorConfig
from models.evaluation import FIGURES, default_held_out, evaluate_one
from models.preparation import LabelledRows, prepare

SETS = ("gas", "letter", "mnist10k", "satimage", "shuttle")


def read_set(folder: Path, name: str) -> LabelledRows:
    """Rows of one evaluation set, prepared as training does."""
    with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
        return prepare(file["X"], file["y"].astype(np.str_))


def run(folder: Path, *, sets: Iterable[str], profiles: Iterable[str], seeds: Iterable[int], state: Path) -> None:
    """Evaluate what ``state`` does not hold yet."""
    done = {(entry["set"], entry["profile"], entry["held_out"], entry["seed"]) for entry in read_state(state)}
    for name in sets:
        rows = read_set(folder, name)
        held_out = default_held_out(rows.classes, np.bincount(rows.labels).tolist())
        for profile, label, seed in ((p, h, s) for p in profiles for h in held_out for s in seeds):
            if (name, profile, label, seed) in done:
                continue
            entry = evaluate_one(rows, label, config=DetectorConfig(profile=profile), seed=seed)
            with state.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"set": name, "profile": profile, **entry}) + "\n")
            sys.stderr.write(f"{name} {profile} without {label}, seed {seed}: AUROC {100 * entry['auroc']:.2f}\n")


def read_state(state: Path) -> list[dict[str, Any]]:
    """Finished entries."""
    return [json.loads(line) for line in state.read_text(encoding="utf-8").splitlines()] if state.exists() else []


def table(entries: list[dict[str, Any]]) -> str:
    """Markdown: a row per profile and set, percentages, and the mean over sets."""
    lines = [
        "| profile | set | AUROC | AUPR | FPR at 95 % | accuracy | false alarms | detection | training s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for profile in sorted({entry["profile"] for entry in entries}, reverse=True):
        means = []
        for name in sorted({entry["set"] for entry in entries if entry["profile"] == profile}):
            chosen = [entry for entry in entries if (entry["set"], entry["profile"]) == (name, profile)]
            means.append([100 * np.mean([entry[figure] for entry in chosen]) for figure in FIGURES])
            means[-1].append(np.mean([entry["train_seconds"] for entry in chosen]))
            lines.append(_line(profile, name, means[-1]))
        lines.append(_line(profile, f"mean of {len(means)}", np.mean(means, axis=0).tolist()))
    return "\n".join(lines)


def _line(profile: str, name: str, values: list[float]) -> str:
    return f"| {profile} | {name} | " + " | ".join(f"{value:.2f}" for value in values[:-1]) + f" | {values[-1]:.1f} |"


def main() -> int:
    """Parse arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--profiles", default="full,fast")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--state", type=Path, default=Path("quality-table.jsonl"))
    options = parser.parse_args()
    if "NARROWS_DATA_DIR" not in os.environ:
        parser.error("set NARROWS_DATA_DIR to the folder of the evaluation sets (gas.npz, ...)")
    torch.set_num_threads(1)
    run(
        Path(os.environ["NARROWS_DATA_DIR"]),
        sets=options.sets.split(","),
        profiles=options.profiles.split(","),
        seeds=[int(seed) for seed in options.seeds.split(",")],
        state=options.state,
    )
    sys.stdout.write(table(read_state(options.state)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
