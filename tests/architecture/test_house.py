"""Rules of the house that no linter knows: sizes, places, names that must not be written, what `schemas` imports."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("schemas", "infra", "producers", "inference_workers", "stream_jobs", "console", "benchmarks")
FILE_LINES_MAX = 330  # about 300 is meant; a little air, so that one more line does not force a split
TEST_LINES_MAX = 420
TOP_LEVEL = {
    *PACKAGES,
    *("tests", "docs", ".ci", "pyproject.toml", "Makefile", "README.md", "CHANGELOG.md", "LICENSE", ".gitignore"),
    *(
        ".gitattributes",
        ".dockerignore",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "requirements.lock",
        "requirements-model.lock",
    ),
}
TEXT = {".py", ".md", ".toml", ".lock", ".sql", ".yml", ".yaml", ".json", ".jsonl", ".txt", ".html", ".js", ".css", ""}
# Package registries are reached by name with their own clients, so that a mirror works; written in two pieces here.
REGISTRY_HOSTS = ("pypi" + ".org", "python" + "hosted", "registry.npm" + "js", "repo1.maven" + ".org", "crates" + ".io")
# Where this checkout and this user are; a place of one step, such as /root, may well be meant for any machine.
PLACES = tuple(str(place).lower() for place in (ROOT, Path.home()) if len(place.parts) > 2)
NOT_OURS = {".git", ".venv", "__pycache__", "build", "dist"}


def project_files() -> list[Path]:
    """Every file that is committed or could be."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):  # no git, or an unpacked archive
        return walked_files()
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def walked_files() -> list[Path]:
    """The same without git: every file outside folders that tools make (hidden ones among them)."""
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if not is_made_by_tools(name)]
        found += [Path(folder, name) for name in names]
    return [path for path in found if path.name != ".venv.lock"]


def is_made_by_tools(folder: str) -> bool:
    return folder in NOT_OURS or folder.endswith(".egg-info") or (folder.startswith(".") and folder != ".ci")


def python_files() -> list[Path]:
    """The packages' own Python files."""
    return [path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))]


def test_files_stay_within_their_size():
    sizes = {path.relative_to(ROOT).as_posix(): path.read_text().count("\n") for path in python_files()}
    assert sizes
    assert {name: lines for name, lines in sizes.items() if lines > FILE_LINES_MAX} == {}
    tests = {path.relative_to(ROOT).as_posix(): path.read_text().count("\n") for path in (ROOT / "tests").rglob("*.py")}
    assert tests
    assert {name: lines for name, lines in tests.items() if lines > TEST_LINES_MAX} == {}


def test_without_git_the_same_files_are_found():
    assert {path for path in project_files() if path.suffix == ".py"} <= set(walked_files())
    assert not [path for path in walked_files() if ".venv" in path.relative_to(ROOT).parts]


def test_nothing_new_at_the_top_level():
    top = {path.relative_to(ROOT).parts[0] for path in project_files()}
    assert top - TOP_LEVEL == set()


def test_no_file_is_called_after_nothing():
    vague = {"utils", "helpers", "common", "manager", "misc", "util", "helper"}
    assert [path for path in python_files() if path.stem in vague] == []


def test_no_registry_host_and_no_path_of_one_machine_is_written():
    found = []
    for path in project_files():
        if path.suffix in TEXT:
            text = path.read_text(errors="replace").lower()
            found += [f"{path.relative_to(ROOT)}: {word}" for word in (*REGISTRY_HOSTS, *PLACES) if word in text]
    assert found == []


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-model.lock"])
def test_locks_pin_versions_and_hashes_and_name_no_host(name):
    text = (ROOT / name).read_text()
    assert "://" not in text
    assert "--index" not in text
    entries = re.findall(r"^([a-z0-9][a-z0-9.-]*)(\S*)((?:.*\\\n)(?:    --hash=sha256:[0-9a-f]{64}.*\n)+)?", text, re.M)
    assert entries
    assert [name for name, pin, hashes in entries if not pin.startswith("==") or not hashes] == []


def test_locks_hold_every_direct_dependency_at_its_pinned_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    lock = (ROOT / "requirements.lock").read_text()
    pinned = [line for line in wanted if "==" in line]
    assert len(pinned) > 20
    assert [line for line in pinned if f"\n{line} " not in f"\n{lock}"] == []
    model = (ROOT / "requirements-model.lock").read_text()
    assert all(line in model for line in project["dependency-groups"]["model"])


def test_every_direct_dependency_has_its_reason_in_the_documentation():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    wanted = [*project["project"]["dependencies"], *groups["dev"], *groups["model"]]
    names = {re.split(r"[=<>!~;\[ ]", line)[0] for line in wanted}
    documented = dict(
        re.findall(r"^\| `([a-z0-9-]+)` \| (.{10,}) \|$", (ROOT / "docs/dependencies.md").read_text(), re.M)
    )
    assert names - documented.keys() == set(), "a dependency without a reason"
    assert documented.keys() - names == set(), "a reason without a dependency"


def imported_roots(path: Path) -> set[str]:
    """The top-level names that a file imports, anywhere in it."""
    roots = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            roots |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            roots.add(node.module.partition(".")[0])
    return roots


def test_schemas_need_the_standard_library_and_pydantic_only():
    allowed = sys.stdlib_module_names | {"pydantic", "schemas"}
    files = sorted((ROOT / "schemas").rglob("*.py"))
    assert files
    assert {path.name: rest for path in files if (rest := imported_roots(path) - allowed)} == {}


def test_tests_skip_where_a_part_is_missing_through_one_door_that_fails_in_ci():
    skips = re.compile(r"pytest\.(skip|importorskip)\(")
    doors = [path.name for path in sorted((ROOT / "tests").rglob("*.py")) if skips.search(path.read_text())]
    assert doors == ["parts.py"]


def test_no_package_reads_code_from_messages():
    users = [
        path.relative_to(ROOT).as_posix()
        for path in python_files()
        if imported_roots(path) & {"pickle", "marshal", "shelve"}
    ]
    assert users == []


OF_THE_DATA = (
    # folders of NAB's series, some of the series in them, and how the files are called
    *("realKnownCause", "realAWSCloudWatch", "realAdExchange", "realTraffic", "realTweets", "artificialWithAnomaly"),
    *("ec2_request_latency", "ec2_cpu_utilization", "nyc_taxi", "machine_temperature", "cpu_utilization_asg", "rogue_"),
    *("ambient_temperature", "rds_cpu", "elb_request", "grok_asg", "exchange-", "Twitter_volume", "art_daily"),
    *('.parquet"', "nab_windows", "nab_published", "nab_reference", "genai_serving"),
)
KPI_IDS = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b|['\"][0-9a-f]{16}['\"]")
"""The series of AIOPS are called so."""
ANSWERS = {"label", "labels", "is_anomaly", "anomaly_label", "split", "ground_truth"}
"""Columns that say what is to be found, or which part is judged."""


def names_of_the_data(text: str) -> list[str]:
    """Series, files and columns of labels that a source text names in its code."""
    words = [word for word in OF_THE_DATA if word.lower() in text.lower()]
    constants = [node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)]
    return [*words, *KPI_IDS.findall(text), *sorted(ANSWERS.intersection(c for c in constants if isinstance(c, str)))]


def test_no_series_or_file_of_the_data_is_named_where_they_are_scored_and_no_label_is_read():
    """But where people's own files are read, which is where such columns are left out."""
    reading = ROOT / "stream_jobs" / "history"
    files = sorted(path for path in (ROOT / "stream_jobs").rglob("*.py") if reading not in path.parents)
    assert len(files) > 100
    texts = {path.relative_to(ROOT).as_posix(): path.read_text() for path in files}
    assert {name: found for name, text in texts.items() if (found := names_of_the_data(text))} == {}
    assert [name for name in texts if "benchmarks" in imported_roots(ROOT / name)] == []


@pytest.mark.parametrize(
    "text",
    [
        'if series == "realKnownCause/nyc_taxi.csv": scale = 2',
        'SCALES = {"05f10d3a-239c-3bef-9bdc-a2feeb0037aa": 3}',
        'wrong = table["label"]',
        'read("wsd.parquet")',
    ],
)
def test_what_names_the_data_is_found(text):
    assert names_of_the_data(text)


def test_every_import_is_a_declared_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    declared = {re.split(r"[=<>!~;\[ ]", line)[0].replace("-", "_") for line in project["project"]["dependencies"]}
    # faust-streaming is imported as faust and brings mode, its process framework; nvidia-ml-py is imported as pynvml.
    declared |= {"faust", "mode", "pynvml", "PIL"}  # PIL is pillow
    allowed = declared | set(PACKAGES) | sys.stdlib_module_names
    assert {
        path.relative_to(ROOT).as_posix(): rest for path in python_files() if (rest := imported_roots(path) - allowed)
    } == {}
