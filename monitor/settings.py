"""The whole configuration, read once and then frozen. The file and environment formats are ``settings_sources.py``.

Order of precedence: environment ``NARROWS_SECTION__FIELD``, then ``KAFKA_BOOTSTRAP_SERVERS``, the file, defaults.
Relative paths, wherever they are written, are relative to the folder of the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ByteSize,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from monitor.errors import ConfigError
from monitor.settings_sources import explain, find_file, overlay_environment, read_toml
from monitor.settings_streams import StreamSettings, Table
from monitor.settings_types import Duration, text_or_json_list

# Greedy up to the last "@": hiding too much is better than showing the tail of a password that has one.
_URL_PASSWORD = re.compile(r"(?<=://)([^:/@]*):.*(?=@)|(?<=[?&]password=)[^&]*")
_SQLITE = re.compile(r"(sqlite(?:\+\w+)?:///)([^?]*)(.*)", re.DOTALL)


def _folder(info: ValidationInfo) -> Path | None:
    return (info.context or {}).get("folder")


def _absolute(path: str, info: ValidationInfo) -> str:
    folder = _folder(info)
    return path if folder is None or "://" in path else str(folder / path)


def _absolute_sqlite(url: str, info: ValidationInfo) -> str:
    match, folder = _SQLITE.fullmatch(url), _folder(info)
    if match is None or folder is None or match[2] in {"", ":memory:"} or match[2].startswith("file:"):
        return url
    return f"{match[1]}{folder / match[2]}{match[3]}"


def _database_url(url: str) -> str:
    if "://" not in url:
        raise ValueError(
            'not a database URL: write "sqlite:///narrows.db" or "postgresql+psycopg://user@host/database"'
        )
    return url


def mask_url(url: str) -> str:
    """The URL with its password, if any, replaced by asterisks."""
    return _URL_PASSWORD.sub(lambda match: f"{match[1]}:***" if match[1] is not None else "***", url)


PathText = Annotated[str, AfterValidator(_absolute)]
PathField = Annotated[Path, BeforeValidator(lambda path, info: _absolute(str(path), info))]


class StoreSettings(Table):
    """The SQL store."""

    url: Annotated[str, AfterValidator(_database_url), AfterValidator(_absolute_sqlite)] = Field(
        default="sqlite:///narrows.db",
        repr=False,
        description="Database: `sqlite:///FILE` or `postgresql+psycopg://USER:PASSWORD@HOST/DATABASE`.",
    )


class RegistrySettings(Table):
    """The folder of model artifacts."""

    uri: PathText = Field(default="registry", description="Folder of model artifacts.")


class SecuritySettings(Table):
    """TLS and SASL of the broker."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="`PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        default=None, description="`PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`."
    )
    sasl_username: str | None = Field(default=None, description="User.")
    sasl_password: SecretStr | None = Field(default=None, description="Password.")
    ca_file: PathField | None = Field(default=None, description="Certificates (PEM) to trust; else the system's.")
    cert_file: PathField | None = Field(default=None, description="Client certificate (PEM).")
    key_file: PathField | None = Field(default=None, description="Client key (PEM).")
    key_password: SecretStr | None = Field(default=None, description="Password of the client key.")
    check_hostname: bool = Field(default=True, description="Whether the broker's certificate must name its host.")

    @model_validator(mode="after")
    def _sasl_is_complete(self) -> SecuritySettings:
        if self.protocol.startswith("SASL") and not (self.sasl_mechanism and self.sasl_username and self.sasl_password):
            raise ValueError(f"protocol {self.protocol} needs sasl_mechanism, sasl_username and sasl_password")
        return self


class KafkaSettings(Table):
    """The Kafka cluster and how its records are read."""

    bootstrap_servers: Annotated[list[str], BeforeValidator(text_or_json_list)] = Field(
        default=["localhost:9092"],
        min_length=1,
        description="Brokers to ask first, `host:port`. `KAFKA_BOOTSTRAP_SERVERS` also wins over the file.",
    )
    client: Literal["kafka-python"] = Field(default="kafka-python", description="Client library.")
    group_prefix: str = Field(
        default="narrows", min_length=1, description="Consumer group is `<group_prefix>.<stream>`."
    )
    start_from: Literal["earliest", "latest"] = Field(
        default="earliest", description="Where a stream starts in a partition that the store does not know yet."
    )
    max_partition_fetch_bytes: ByteSize = Field(
        default=ByteSize(8 * 1024**2), ge=1024, description="Most bytes fetched of one partition at once."
    )
    session_timeout_s: float = Field(
        default=45.0, gt=0, description="Seconds without a heartbeat until partitions move on."
    )
    security: SecuritySettings = Field(default_factory=SecuritySettings)

    @field_validator("bootstrap_servers")
    @classmethod
    def _plain_addresses(cls, servers: list[str]) -> list[str]:
        for server in servers:
            if "://" in server or not re.fullmatch(r"\S+", server):
                raise ValueError(f'{server!r} is not an address: write "host:port", without a scheme')
        return servers


class WorkerSettings(Table):
    """The process that scores."""

    reload_interval: Duration = Field(
        default=timedelta(seconds=2), description="How often it looks for a new champion or thresholds."
    )
    shutdown_timeout: Duration = Field(default=timedelta(seconds=10), description="Longest time to end after SIGTERM.")
    threads: int = Field(default=1, ge=1, description="Threads for scoring.")


class MetricsSettings(Table):
    """Prometheus metrics and health over HTTP."""

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=0, ge=0, le=65_535, description="Port to listen on; 0 is off.")


class LogSettings(Table):
    """What the processes say on stderr."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", description="Least level shown.")
    format: Literal["text", "json"] = Field(default="text", description="`text` for people or `json` for machines.")


class Settings(Table):
    """Everything that is configured."""

    store: StoreSettings = Field(default_factory=StoreSettings)
    registry: RegistrySettings = Field(default_factory=RegistrySettings)
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    worker: WorkerSettings = Field(default_factory=WorkerSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    streams: tuple[StreamSettings, ...] = ()
    _file: Path | None = PrivateAttr(default=None)

    @field_validator("streams")
    @classmethod
    def _names_differ(cls, streams: tuple[StreamSettings, ...]) -> tuple[StreamSettings, ...]:
        # Without regard to case and punctuation, because environment variables name streams so.
        counts = Counter(re.sub(r"[.-]", "_", stream.name.lower()) for stream in streams)
        if twice := [name for name, count in counts.items() if count > 1]:
            raise ValueError(f"two streams are named {', '.join(twice)}: give each its own name")
        return streams

    @property
    def file(self) -> Path | None:
        """Where it was read from; None when there was no file."""
        return self._file

    def stream(self, name: str | None = None) -> StreamSettings:
        """The stream of that name, or the only one.

        Raises:
            ConfigError: There is none, or none of that name, or several and no name; the message lists the names.
        """
        where = self._file or "the configuration"
        names = [stream.name for stream in self.streams]
        if not names:
            raise ConfigError(f"{where} configures no stream. Add [[streams]], or write a file with: narrows init")
        if name is None and len(names) > 1:
            raise ConfigError(f"Several streams are configured ({', '.join(names)}): choose one with --stream NAME.")
        if name is not None and name not in names:
            raise ConfigError(f"{where} configures no stream {name!r}. There is: {', '.join(names)}.")
        return self.streams[0 if name is None else names.index(name)]

    def masked(self) -> dict[str, Any]:
        """The effective configuration in the shape of the file, JSON values only, without secrets."""
        shown = self.model_dump(mode="json", by_alias=True)
        shown["store"]["url"] = mask_url(self.store.url)
        return shown


def fingerprint(stream: StreamSettings) -> str:
    """Hash of what the stream's configuration changes from the defaults; the same in every process and version."""
    changed = stream.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:16]


def load_settings(path: Path | None = None, *, environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the configuration.

    Args:
        path: File to read; else ``NARROWS_CONFIG``, else ``narrows.toml`` of the current folder where there is one.
        environ: Environment variables.

    Raises:
        ConfigError: It cannot be read or used; the message names file, key, problem and remedy, all problems at once.
    """
    file = find_file(path, environ=environ)
    values = {} if file is None else read_toml(file)
    origins = overlay_environment(values, environ=environ)
    for section in ("store", "registry", "kafka"):  # present, so that their default paths see the folder
        values.setdefault(section, {})
    folder = Path.cwd() if file is None else file.absolute().parent
    try:
        settings = Settings.model_validate(values, context={"folder": folder})
    except ValidationError as error:
        raise ConfigError(explain(error, Settings, values=values, file=file, origins=origins)) from None
    settings._file = file  # noqa: SLF001 - its own class, a few lines above
    return settings
