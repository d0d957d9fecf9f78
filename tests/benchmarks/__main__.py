"""``make bench``: steady speed of one worker beside a bare poll loop on the same topics in the same run.

Steady speed is (long - short) / (time for long - time for short), so that start-up does not count. Wall time and CPU
time are those of the whole process. Each repeat runs all scenarios once, in turn; ratios are taken within a repeat.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from monitor.local import KafkaServer, external_bootstrap_servers
from tests.benchmarks.workload import deploy, fill_topic

PROFILES = ("fast", "full")


@dataclass(frozen=True)
class Cost:
    """What a whole process took."""

    wall_s: float
    cpu_s: float
    peak_mb: float


@dataclass(frozen=True)
class Speed:
    """Steady records a second, by the clock and by the CPU."""

    per_wall_s: float
    per_cpu_s: float
    peak_mb: float


def timed(command: list[str]) -> Cost:
    """Run a command to its end."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return Cost(time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def steady(run: Callable[[str], Cost], *, short: tuple[str, int], long: tuple[str, int]) -> Speed:
    """Speed of the difference between a long and a short run."""
    small, large = run(short[0]), run(long[0])
    records = long[1] - short[1]
    return Speed(records / (large.wall_s - small.wall_s), records / (large.cpu_s - small.cpu_s), large.peak_mb)


class Bench:
    """Topics, deployments and the scenarios on them."""

    def __init__(self, folder: Path, *, bootstrap_servers: str, short: int, long: int) -> None:
        self._folder = folder
        self._servers = bootstrap_servers
        say(f"filling topics with {short} and {long} records of 64 numbers as JSON")
        self._short = (fill_topic(bootstrap_servers, records=short, seed=2), short)
        self._long = (fill_topic(bootstrap_servers, records=long, seed=3), long)
        self._runs = 0
        for profile in PROFILES:
            say(f"training the champion, profile {profile}")
            deploy(folder / profile, bootstrap_servers=bootstrap_servers, topic="-", profile=profile)

    def bare(self) -> Speed:
        """The poll loop alone."""
        command = [sys.executable, "-m", "tests.benchmarks.bare_poll", self._servers]
        return steady(lambda topic: timed([*command, topic, "4000"]), short=self._short, long=self._long)

    def worker(self, profile: str) -> Speed:
        """The whole pipeline, on a fresh copy of the deployment each time."""
        return steady(lambda topic: self._run_worker(profile, topic), short=self._short, long=self._long)

    def _run_worker(self, profile: str, topic: str) -> Cost:
        self._runs += 1
        folder = self._folder / f"run-{self._runs}"
        shutil.copytree(self._folder / profile, folder)
        config = folder / "narrows.toml"
        config.write_text(config.read_text().replace('topic = "-"', f'topic = "{topic}"'))
        cost = timed([sys.executable, "-m", "monitor.cli", "--config", str(config), "run", "--until-caught-up"])
        shutil.rmtree(folder)
        return cost


def say(line: str) -> None:
    """Talk goes to stderr."""
    print(f"bench: {line}", file=sys.stderr, flush=True)


def report(rows: dict[str, list[Speed]]) -> str:
    """The table: medians, and the ratios to the bare loop with their range over the repeats."""
    lines = [
        f"{'scenario':<12}{'records/s':>11}{'records/CPU s':>15}{'peak MB':>9}   {'ratio by clock':<22}ratio by CPU"
    ]
    for name, speeds in rows.items():
        wall = statistics.median(speed.per_wall_s for speed in speeds)
        cpu = statistics.median(speed.per_cpu_s for speed in speeds)
        peak = max(speed.peak_mb for speed in speeds)
        pairs = list(zip(speeds, rows["bare poll"], strict=True))
        clock = _spread([mine.per_wall_s / bare.per_wall_s for mine, bare in pairs])
        work = _spread([mine.per_cpu_s / bare.per_cpu_s for mine, bare in pairs])
        lines.append(f"{name:<12}{wall:>11,.0f}{cpu:>15,.0f}{peak:>9.0f}   {clock:<22}{work}")
    return "\n".join(lines)


def _spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main() -> None:
    """Run all scenarios."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--short", type=int, default=20_000, help="records of the short run")
    parser.add_argument("--long", type=int, default=260_000, help="records of the long run")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    options = parser.parse_args()
    external = external_bootstrap_servers(os.environ)
    with tempfile.TemporaryDirectory(prefix="narrows-bench-") as name:
        folder = Path(name)
        if external:
            rows = scenarios(folder, external, options)
        else:
            say("starting Kafka")
            with KafkaServer.start(folder / "kafka") as server:
                rows = scenarios(folder, server.bootstrap_servers, options)
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}")
    print(report(rows))
    if options.json:
        options.json.write_text(
            json.dumps({name: [asdict(speed) for speed in speeds] for name, speeds in rows.items()})
        )


def scenarios(folder: Path, bootstrap_servers: str, options: argparse.Namespace) -> dict[str, list[Speed]]:
    """All scenarios in turn, as often as asked."""
    bench = Bench(folder, bootstrap_servers=bootstrap_servers, short=options.short, long=options.long)
    runs: dict[str, Callable[[], Speed]] = {"bare poll": bench.bare}
    runs |= {f"worker {profile}": lambda profile=profile: bench.worker(profile) for profile in PROFILES}
    rows: dict[str, list[Speed]] = {name: [] for name in runs}
    for repeat in range(options.repeats):
        for name, run in runs.items():
            speed = run()
            rows[name].append(speed)
            say(f"repeat {repeat + 1}: {name} {speed.per_wall_s:,.0f} records/s, {speed.per_cpu_s:,.0f} per CPU second")
    return rows


if __name__ == "__main__":
    main()
