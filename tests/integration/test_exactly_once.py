"""Nothing lost, nothing doubled, on a real broker and both databases: kill -9, two workers, swaps under load.

The long form is the same tests with other numbers: NARROWS_TEST_RECORDS=50000 NARROWS_TEST_KILLS=10.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from typing import Self

import pytest

from monitor.local.producer import send_all
from tests.conftest import MakeTopic
from tests.deployment import Deployment, Running, eventually, payloads

RECORDS = int(os.environ.get("NARROWS_TEST_RECORDS", "8000"))
KILLS = int(os.environ.get("NARROWS_TEST_KILLS", "3"))
PARTITIONS = 2

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(1200)]

Deploy = Callable[..., Deployment]


@pytest.fixture
def filled_topic(make_topic: MakeTopic, bootstrap_servers: str) -> str:
    """Known, unknown, broken and null records on two partitions."""
    name = make_topic(partitions=PARTITIONS)
    for partition in range(PARTITIONS):
        values = payloads(RECORDS // PARTITIONS, seed=10 + partition)
        send_all(bootstrap_servers, topic=name, values=values, partition=partition)
    return name


def undisturbed(deploy: Deploy, topic: str) -> Deployment:
    """A run by one worker that nothing happens to."""
    deployment = deploy("undisturbed", topic=topic)
    deployment.narrows("run", "--until-caught-up")
    (counts,) = deployment.results()["counts"]
    assert sum(counts[i] for i in (0, 2, 3)) == RECORDS
    assert counts[1] > RECORDS * 0.015
    return deployment


def done(deployment: Deployment) -> int:
    """Records behind the stored offsets."""
    return sum(deployment.offsets().values())


def test_sigkill_at_random_instants_leaves_the_rows_of_an_undisturbed_run(
    deploy: Deploy, filled_topic: str, store_url: str
) -> None:
    """Killed again and again while it writes, then left to finish."""
    expected = undisturbed(deploy, filled_topic).results()
    deployment = deploy("killed", topic=filled_topic, store_url=store_url, max_records=20)
    rng, before = random.Random(7), 0
    for kill in range(KILLS):
        worker = deployment.start("run")
        target = before + rng.randint(1, max(2, (RECORDS - before) // (KILLS - kill + 1)))
        eventually(lambda: done(deployment) >= target, what=f"offset {target}")  # noqa: B023 - called at once
        worker.kill()
        assert done(deployment) >= before
        before = done(deployment)
    assert before < RECORDS, "every kill came after the end: nothing was tested"
    deployment.narrows("run", "--until-caught-up")
    assert deployment.results() == expected


def test_two_workers_share_the_partitions_and_one_takes_over(deploy: Deploy, filled_topic: str) -> None:
    """One is stopped in the middle; the other gets its partition; rows as in a run by one."""
    expected = undisturbed(deploy, filled_topic).results()
    deployment = deploy("shared", topic=filled_topic, max_records=25)
    workers = [deployment.start("run"), deployment.start("run")]
    try:
        eventually(lambda: all("Reading" in worker.text() for worker in workers), what="both reading")
        assert workers[0].stop() == 0
        eventually(lambda: done(deployment) == RECORDS, what="the end")
        assert workers[1].stop() == 0
    finally:
        kill_all(workers)
    assert deployment.results() == expected


def test_champion_and_thresholds_change_under_a_running_worker(
    deploy: Deploy, make_topic: MakeTopic, bootstrap_servers: str, store_url: str
) -> None:
    """Recalibrate and retrain while records stream in: every row names a version and a threshold that were current."""
    topic = make_topic(partitions=PARTITIONS)
    deployment = deploy("swapped", topic=topic, store_url=store_url)
    worker = deployment.start("run")
    try:
        with Feed(bootstrap_servers, topic) as feed:
            eventually(lambda: done(deployment) > 3000, what="records to calibrate on")
            for number, job in enumerate(("recalibrate", "retrain"), start=2):
                deployment.narrows("jobs", "run", job, "--json")
                eventually(lambda: worker.text().count("judges") >= number, what=f"taking over what {job} made")  # noqa: B023
                after = done(deployment)
                eventually(lambda: done(deployment) > after + 1000, what="records judged by it")  # noqa: B023
        eventually(lambda: done(deployment) == feed.n_sent, what=f"{feed.n_sent} records")
        assert worker.stop() == 0
    finally:
        worker.kill()
    judged = deployment.query(
        "SELECT v.number, t.source, count(*) FROM anomalies a JOIN thresholds t ON t.id = a.threshold_id "
        "JOIN model_versions v ON v.id = a.model_version_id WHERE t.model_version_id = v.id "
        "AND t.value = a.threshold AND t.class_label = a.nearest_class GROUP BY 1, 2 ORDER BY 1, 2"
    )
    assert {(number, source) for number, source, _ in judged} == {
        (1, "training"), (1, "recalibration"), (2, "training"),
    }  # fmt: skip
    assert sum(n for _, _, n in judged) == deployment.query("SELECT count(*) FROM anomalies")[0][0]
    (counts,) = deployment.results()["counts"]
    assert counts[0] + counts[2] + counts[3] == feed.n_sent


class Feed:
    """Sends records on a thread of its own, without a pause, until the block ends."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self.n_sent = 0
        self._servers = bootstrap_servers
        self._topic = topic
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            values = payloads(500, seed=self.n_sent)
            partition = self.n_sent // 500 % PARTITIONS
            self.n_sent += send_all(self._servers, topic=self._topic, values=values, partition=partition)


def kill_all(workers: list[Running]) -> None:
    """Whatever is left."""
    for worker in workers:
        worker.kill()
