"""A real Apache Kafka broker (KRaft, one node) for tests, the demo and trying things; not for production."""

import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Self

from monitor.local.errors import StartError
from monitor.local.jars import java, kafka_class_path
from monitor.local.kafka_probe import has_brokers
from monitor.local.process import ServerProcess
from monitor.local.server import LocalServer, Progress, silent
from monitor.local.state import LOOPBACK, ServerState, build_once, choose_port

CLUSTER_ID = "bmFycm93cy1sb2NhbC1rYQ"  # any 16 bytes in URL-safe base64; here they read "narrows-local-ka"
START_TIMEOUT_S = 60.0  # it takes two seconds; a loaded machine may take ten times that
FORMAT_TIMEOUT_S = 60.0
HEAP_MB = 512
NO_PROPERTIES: Mapping[str, str] = MappingProxyType({})

JVM_FLAGS = (
    "-XX:TieredStopAtLevel=1",  # half the start-up time goes into the optimising compiler otherwise
    "-XX:+UseSerialGC",
    "-Xshare:auto",
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",  # a dead broker is noticed; one that half lives is not
    "--sun-misc-unsafe-memory-access=allow",
    "--enable-native-access=ALL-UNNAMED",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
)
PROPERTIES: Mapping[str, str] = MappingProxyType(
    {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.listener.names": "CONTROLLER",
        "num.partitions": "3",
        "default.replication.factor": "1",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",  # the default of 50 makes the first consumer wait
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "log.cleaner.dedupe.buffer.size": "8388608",  # the default takes 128 MB of the heap at once
        "broker.session.timeout.ms": "4000",  # a killed broker comes back only after it; a starved one is fenced by it
        "broker.heartbeat.interval.ms": "500",
        "num.io.threads": "4",
        "num.network.threads": "2",
    }
)


class KafkaServer(LocalServer):
    """One Kafka broker, its own controller.

    Attributes:
        folder: Holds the data, the log and the state.
        port: Where clients connect, on loopback.
    """

    name: ClassVar[str] = "Kafka"
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    guard_signal: ClassVar[signal.Signals] = signal.SIGKILL

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        port: int | None = None,
        heap_mb: int = HEAP_MB,
        properties: Mapping[str, str] = NO_PROPERTIES,
        owned: bool = True,
        timeout_s: float = START_TIMEOUT_S,
        progress: Progress = silent,
    ) -> Self:
        """Start a broker, or find the one that runs in the folder, and wait until it answers.

        Args:
            folder: Made if it does not exist; data of an earlier run are kept.
            port: Where clients connect; by default the earlier one if it is free, else any free one.
            heap_mb: Largest heap, in MiB.
            properties: Broker settings, on top of `PROPERTIES`.
            owned: Whether the broker dies with this process; otherwise it stays until `stop`.
            timeout_s: How long to wait for an answer.
            progress: Told what takes time.

        Returns:
            The running broker, also a context manager that stops it.

        Raises:
            MissingExtraError: The wheels are not installed.
            DownloadError: The jars are not here and cannot be fetched.
            PortTakenError: Something else listens on ``port``.
            StartError: The broker ended or did not answer in time.
        """
        options = {**properties, "heap_mb": str(heap_mb)}
        server = cls(folder, options=options, owned=owned, timeout_s=timeout_s, progress=progress)
        server._start_or_attach(port=port)
        return server

    @property
    def bootstrap_servers(self) -> str:
        """Address for clients, as in KAFKA_BOOTSTRAP_SERVERS."""
        return f"{LOOPBACK}:{self.port}"

    @classmethod
    def _of(cls, folder: Path, *, state: ServerState) -> Self:
        options = dict(state.options)
        server = cls(folder, options=options, owned=False, timeout_s=START_TIMEOUT_S, progress=silent)
        server._attach(state)
        return server

    def _prepare(self) -> None:
        build_once(self.folder / "data", build=self._format)

    def _format(self, target: Path) -> None:
        config = self._write_properties(target, controller_port=choose_port())
        done = subprocess.run(
            self._java("kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER_ID, "--config", str(config)),
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=FORMAT_TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            self.log.write_bytes(done.stdout + done.stderr)
            raise StartError("Kafka could not format its data folder", log=self.log)

    def _launch(self) -> ServerProcess:
        self._progress(f"Starting Apache Kafka on {self.bootstrap_servers} ...")
        config = self._write_properties(self.folder / "data", controller_port=choose_port())
        return ServerProcess.spawn(
            self._java("kafka.Kafka", str(config)),
            log=self.log,
            environment=self._environment(),
            owned=self._owned,
            guard_signal=self.guard_signal,
        )

    def _answers(self) -> bool:
        return has_brokers(LOOPBACK, self.port)

    def _write_properties(self, data: Path, *, controller_port: int) -> Path:
        chosen = {key: value for key, value in self._options.items() if key != "heap_mb"}
        merged = {
            **PROPERTIES,
            "controller.quorum.voters": f"1@{LOOPBACK}:{controller_port}",
            "listeners": f"PLAINTEXT://{LOOPBACK}:{self.port},CONTROLLER://{LOOPBACK}:{controller_port}",
            "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{self.port}",
            "log.dirs": str(data),
            **chosen,
        }
        config = self.folder / "server.properties"
        lines = (f"{key}={escape_property(value)}\n" for key, value in merged.items())
        config.write_text("".join(lines), encoding="ascii")
        return config

    def _java(self, *arguments: str) -> list[str]:
        heap_mb = int(self._options.get("heap_mb", str(HEAP_MB)))
        scratch = self.folder / "tmp"  # native codecs are unpacked here and left behind by a kill
        scratch.mkdir(exist_ok=True)
        class_path = kafka_class_path(environment=os.environ, progress=self._progress)
        heap = (f"-Xms{min(64, heap_mb)}m", f"-Xmx{heap_mb}m", f"-Djava.io.tmpdir={scratch}")
        return [str(java()), *heap, *JVM_FLAGS, "-cp", class_path, *arguments]

    def _environment(self) -> dict[str, str]:
        return {"LC_ALL": "C.UTF-8", "HOME": str(self.folder)}


def escape_property(value: str) -> str:
    """Write a value for a Java properties file, which is read as Latin-1."""
    units = value.replace("\\", "\\\\").encode("utf-16-be")
    codes = (int.from_bytes(units[i : i + 2]) for i in range(0, len(units), 2))
    return "".join(chr(code) if code < 0x80 else f"\\u{code:04x}" for code in codes)
