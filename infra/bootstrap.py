"""Set-up of the environment in .venv, with the standard library alone: run as `python3 infra/bootstrap.py`.

Owns: is this machine supported, is there room, which Python, install exactly what the locks say, and do
nothing when that is done already. Runs before anything is installed: it and the modules it imports keep
to the standard library and to what Python 3.7 can read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

# Run as a file, Python looks for modules beside it, where a kafka.py or metrics.py could hide another.
if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from infra.disk_room import cached_bytes, freed_bytes, nearest_existing, pinned_versions
from infra.exit_codes import EXIT_CONFIGURATION, EXIT_INTERRUPTED, EXIT_TRY_AGAIN
from infra.machine import (
    DOWNLOAD_GB,
    GB,
    INSTALL_BYTES,
    disk_problem,
    platform_problem,
    python_suits,
    version_tuple,
)
from infra.mirrors import index_environment, parse_pip_settings

STDERR = 2
LOCKS = ("requirements.lock", "requirements-model.lock")
STAMP_INPUTS = (*LOCKS, "pyproject.toml")
PIP_OPTIONS = (
    "--quiet",
    "--no-deps",
    "--only-binary=:all:",
    "--require-hashes",
    "--disable-pip-version-check",
)
FOREIGN_VARIABLES = ("VIRTUAL_ENV", "PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_PREFIX", "PIP_USER")


class SetupError(Exception):
    """The set-up cannot go on; the text says why and what to do."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def say(text: str) -> None:
    """Print one line of progress on stderr: stdout belongs to the command that make runs next, and to its --json."""
    print("setup: " + text, file=sys.stderr, flush=True)


def stamp_digest(files: Mapping[str, bytes], python_version: str) -> str:
    """Return the hex SHA-256 that changes when a lock, the project file or Python's version changes."""
    digest = hashlib.sha256(python_version.encode())
    for name in sorted(files):
        digest.update(b"\0" + name.encode() + b"\0" + hashlib.sha256(files[name]).digest())
    return digest.hexdigest()


def locked_lines(lock: str, package: str) -> str:
    """Return the lines of a lock that pin one package, hashes included. Raises SetupError without any."""
    match = re.search(rf"^{re.escape(package)}==.*(?:\n[ \t]+.*)*", lock, re.MULTILINE)
    if match is None:
        raise SetupError(
            f"requirements.lock does not pin {package}: run git checkout requirements.lock", EXIT_CONFIGURATION
        )
    return match.group() + "\n"


def find_python() -> str:
    """Return the path of a Python from 3.11 to 3.14, the running one first. Raises SetupError without one."""
    if python_suits(sys.version_info[:2]):
        return sys.executable
    for name in ("python3", "python3.13", "python3.12", "python3.11", "python3.14"):
        path = shutil.which(name)
        if path and python_suits(version_of(path)):
            return path
    raise SetupError(
        f"Python {platform.python_version()} is not between 3.11 and 3.14, and no other was found. Install "
        "one: apt install python3.11 python3.11-venv, dnf install python3.12, or brew install python@3.13",
        EXIT_CONFIGURATION,
    )


def version_of(python: str) -> tuple[int, ...]:
    """Return the version of a Python by running it: () for one that does not run, as a pyenv shim may."""
    try:
        shown = subprocess.run(
            [python, "-c", "import platform; print(platform.python_version())"],
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ()
    return version_tuple(shown.stdout)


class Setup:
    """The environment of one checkout: `root` holds the locks, `root/.venv` is made."""

    def __init__(self, root: Path, environment: Mapping[str, str]) -> None:
        self.root = root
        self.venv = root / ".venv"
        self.stamp = self.venv / "inferwatch-setup.json"
        self.environment = dict(environment)
        # Nothing here may be taken from another environment that happens to be active.
        for name in FOREIGN_VARIABLES:
            self.environment.pop(name, None)

    def tool(self, name: str) -> str:
        """Return the path of a program inside .venv."""
        return str(self.venv / "bin" / name)

    def wanted_stamp(self, python_version: str) -> dict[str, str]:
        """Return what the stamp says when .venv is up to date."""
        files = {name: (self.root / name).read_bytes() for name in STAMP_INPUTS}
        return {
            "digest": stamp_digest(files, python_version),
            "root": str(self.root),
            "python": python_version,
        }

    def read_stamp(self) -> dict[str, str]:
        """Return the stamp of the last finished set-up, {} without one."""
        try:
            stamp = json.loads(self.stamp.read_text())
        except (OSError, ValueError):
            return {}
        return {str(k): str(v) for k, v in stamp.items()} if isinstance(stamp, dict) else {}

    def is_current(self) -> bool:
        """Return whether the last finished set-up was made from these very files, in this folder."""
        stamp = self.read_stamp()
        programs = (self.tool("python"), self.tool("inferwatch"))  # exists() follows python's link
        return all(os.path.exists(p) for p in programs) and stamp == self.wanted_stamp(stamp.get("python", ""))

    def run(self, command: list[str], what: str) -> None:
        """Run a command with its output on our stderr. Raises SetupError with the usual causes when it fails."""
        code = subprocess.call(command, cwd=self.root, env=self.environment, stdin=subprocess.DEVNULL, stdout=STDERR)
        if code == 0:
            return
        free = shutil.disk_usage(nearest_existing(self.cache())).free
        raise SetupError(
            f"{what} failed (exit {code}); the lines above say why. What helps most often:\n"
            f"  network   behind a proxy set HTTPS_PROXY, for a mirror PIP_INDEX_URL or UV_DEFAULT_INDEX;\n"
            f"            a company's certificate goes into SSL_CERT_FILE\n"
            f"  disk      {free / GB:.1f} GB are free in {self.cache()}\n"
            f"  then      run the same command again: what was downloaded is kept",
            EXIT_TRY_AGAIN,
        )

    def cache(self) -> Path:
        """Return the folder in which uv keeps downloads."""
        if self.environment.get("UV_CACHE_DIR"):
            return self.root / self.environment["UV_CACHE_DIR"]
        home = self.environment.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        return Path(home) / "uv"

    def check_disk(self) -> None:
        """Say how much will be downloaded, and raise SetupError when a disk has no room for it."""
        if self.can_keep_venv():
            return  # a finished set-up is brought up to date: the big part is there
        needed = INSTALL_BYTES[platform.system()]
        cache = nearest_existing(self.cache())
        shared = os.stat(cache).st_dev == os.stat(self.root).st_dev
        if not shared:
            self.environment.setdefault("UV_LINK_MODE", "copy")  # no hard links across file systems
        say(
            f"set-up from scratch: about {needed / GB:.1f} GB in {self.venv} (torch and its libraries), of which "
            f"up to {DOWNLOAD_GB[platform.system()]} GB are downloaded unless they are in {self.cache()}"
        )
        places = {self.root: "the environment"}
        if not shared:
            places[cache] = "the cache of downloads"
        for folder, purpose in places.items():
            free, rest = shutil.disk_usage(folder).free, needed
            if free < needed:  # most of it may be there, after an interruption
                rest, purpose = max(0, needed - self.held_bytes(folder)), "the rest of " + purpose
            problem = disk_problem(free, rest, str(folder), purpose)
            if problem:
                raise SetupError(problem, EXIT_TRY_AGAIN)

    def held_bytes(self, folder: Path) -> int:
        """Return what needs no room on a folder's disk: what .venv, made anew, frees, and what uv's cache holds."""
        disk = os.stat(folder).st_dev
        held = freed_bytes(self.venv) if os.stat(self.root).st_dev == disk else 0
        if os.stat(nearest_existing(self.cache())).st_dev == disk:
            locks = "\n".join((self.root / name).read_text() for name in LOCKS)
            held += cached_bytes(self.cache(), pinned_versions(locks))
        return held

    def can_keep_venv(self) -> bool:
        """Return whether a set-up finished in .venv, in this folder, with a Python that suits.

        One that was interrupted may hold half a package that an installer takes for a whole one.
        """
        finished_here = self.read_stamp().get("root") == str(self.root)
        return finished_here and python_suits(version_of(self.tool("python")))

    def make_venv(self) -> None:
        """Create .venv anew, unless the one there can be kept."""
        if self.can_keep_venv():
            return
        python = find_python()
        say(f"creating {self.venv} with {python} ({'.'.join(map(str, version_of(python)))})")
        made = subprocess.run(
            [python, "-m", "venv", "--clear", str(self.venv)],
            env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if made.returncode != 0:
            raise SetupError(
                f"{python} -m venv failed:\n{(made.stdout + made.stderr).strip()}\nOn Debian and Ubuntu "
                "install the missing part with: apt install python3-venv",
                EXIT_CONFIGURATION,
            )

    def install_uv(self) -> None:
        """Install the locked uv with pip, and share the machine's pip settings with it."""
        python = self.tool("python")
        listing = subprocess.run(
            [python, "-m", "pip", "config", "list"],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        self.environment.update(index_environment(parse_pip_settings(listing.stdout), self.environment))
        pinned = locked_lines((self.root / LOCKS[0]).read_text(), "uv")
        version = pinned.split()[0].split("==")[1]
        installed = any(self.venv.glob(f"lib/python*/site-packages/uv-{version}.dist-info"))
        if installed and os.path.exists(self.tool("uv")):
            return
        if listing.returncode != 0:  # a .venv made without pip, by uv for example
            self.run([python, "-m", "ensurepip"], "installing pip")
        say(f"installing uv {version}, the installer")
        with tempfile.TemporaryDirectory() as folder:
            wanted = Path(folder, "uv.txt")
            wanted.write_text(pinned)
            self.run([python, "-m", "pip", "install", *PIP_OPTIONS, "-r", str(wanted)], "installing uv")

    def install(self) -> None:
        """Bring .venv to exactly what the locks say, and the project itself in editable form."""
        self.environment.setdefault("UV_HTTP_TIMEOUT", "120")
        uv, python = self.tool("uv"), self.tool("python")
        say("installing the locked packages")
        # No build: a package without a wheel here would ask for a compiler.
        sync = [uv, "pip", "sync", "--python", python, "--require-hashes", "--no-build", *LOCKS]
        self.run(sync, "installing packages")
        itself = [uv, "pip", "install", "--python", python, "--quiet", "--no-deps", "--offline"]
        self.run([*itself, "--no-build-isolation", "--editable", str(self.root)], "installing inferwatch")

    def ensure(self) -> None:
        """Do the whole set-up when it is missing or stale. Raises SetupError."""
        if self.is_current():
            return
        machine, macos = platform.machine(), platform.mac_ver()[0]
        problem = platform_problem(platform.system(), machine, platform.libc_ver(), macos)
        if problem:
            raise SetupError(
                f"this machine is not supported: {problem}. Supported are Linux on x86-64 with glibc 2.28 "
                "or newer, and macOS 14 or newer on Apple silicon; a container of the first kind will do",
                EXIT_CONFIGURATION,
            )
        with only_one(self.root / ".venv.lock"):
            if self.is_current():  # another set-up did it while this one waited
                return
            started = time.monotonic()
            self.check_disk()
            self.make_venv()
            if self.stamp.exists():
                self.stamp.unlink()  # from here on .venv is in between
            self.install_uv()
            self.install()
            version = ".".join(map(str, version_of(self.tool("python"))))
            self.stamp.write_text(json.dumps(self.wanted_stamp(version)))
            say(f"done in {time.monotonic() - started:.0f} s")


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold the set-up's lock; wait, saying so, while another process holds it. It falls with its process."""
    import fcntl  # not on Windows, which was refused before

    with open(path, "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say(f"another set-up is running in this folder: waiting for it (lock {path})")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Run the set-up of this checkout and return the exit code."""
    try:
        Setup(Path(__file__).resolve().parent.parent, os.environ).ensure()
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except OSError as error:
        print(f"setup: {error}. Check the disk and the permissions here, then run it again", file=sys.stderr)
        return EXIT_TRY_AGAIN
    except KeyboardInterrupt:
        print("setup: interrupted; run it again to go on where it stopped", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
