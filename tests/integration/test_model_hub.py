"""Models of a hub: the real client, in a process of its own, against a hub on loopback and a cache in a folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from inference_workers.models.hub import REPOSITORY
from tests.fake_hub import COMMIT, FakeHub
from tests.tiny_models import tiny_bert

ROOT = Path(__file__).resolve().parents[3]
FIND = """
import json, sys
from inference_workers.models.registry import find_model
from inference_workers.models.verdicts import ModelRefused
for case in json.loads(sys.argv[1]):
    try:
        model = find_model(**{"name": "org/name"} | case)
    except ModelRefused as refusal:
        print(json.dumps({"reason": refusal.reason.value, "message": str(refusal)}))
    else:
        files = sorted(str(path.relative_to(model.path)) for path in model.path.rglob("*") if path.is_file())
        print(json.dumps({"path": str(model.path), "files": files, "source": model.source}))
"""
NOBODY = "http://127.0.0.1:9"
"""A port where nothing listens."""


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def published(tmp_path):
    """A repository as they are: the model, and what must not be fetched of it."""
    folder = tiny_bert(tmp_path / "published")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text("{}")
    for name in ("pytorch_model.bin", "modeling_tiny.py", "README.md", "training_args.pt", "model.onnx"):
        (folder / name).write_text("x")
    return folder


def find(home, endpoint, *cases, **variables):
    """What `find_model` gives for each case, in one process; without a case, for the model at its commit."""
    hidden = ("HF_", "HUGGING", "INFERWATCH_")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
    environment |= {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_ETAG_TIMEOUT": "10", "NO_PROXY": "*"}
    done = subprocess.run(
        [sys.executable, "-c", FIND, json.dumps([{"revision": COMMIT} | case for case in cases or ({},)])],
        cwd=ROOT,
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_pinned_model_is_fetched_once_without_code_or_pickles(home, published):
    with FakeHub(published) as hub:
        found, again = find(home, hub.url, {}, {})
        asked = hub.asked
    assert found["files"] == [
        "1_Pooling/config.json",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    fetched = [path.partition(COMMIT + "/")[2] for path in asked if "/resolve/" in path]
    assert set(fetched) == set(found["files"])
    assert all(fetched.count(name) <= 2 for name in found["files"]), "head and get, the first time"
    assert found["source"] == f"org/name@{COMMIT}"
    assert Path(found["path"]).is_relative_to(home)
    # The hub is not there any more, and the cache does.
    assert [found, found, found] == [again, *find(home, NOBODY, {"offline": True}, {})]
    assert find(home, NOBODY, HF_HUB_OFFLINE="1") == [found]


def test_a_model_that_cannot_be_had_is_refused_in_words(home):
    cases = [{"offline": True}, {}, {"revision": None}, {"revision": "main"}]
    found = find(home, NOBODY, *cases)
    for one, words in zip(
        [*found, *find(home, NOBODY, HF_HUB_OFFLINE="1")],
        ["fetching is switched off", "the hub cannot be reached", *["40 hex digits"] * 2, "fetching is switched off"],
        strict=True,
    ):
        assert one["reason"] == "not_found"
        assert words in one["message"]
        assert "Ways out" in one["message"]


def test_what_the_hub_does_not_know(home, published):
    with FakeHub(published) as hub:
        commit, name = find(home, hub.url, {"revision": "f" * 40}, {"name": "org/other"})
    assert "no such commit" in commit["message"]
    assert "no such model" in name["message"]
    with FakeHub(published, status=503) as hub:
        assert find(home, hub.url)[0]["reason"] == "not_found"


def test_a_hub_that_answers_with_another_commit_is_not_believed(home, published):
    with FakeHub(published, commit="e" * 40) as hub:
        [found] = find(home, hub.url)
    assert found["reason"] == "unsafe"
    assert "e" * 40 in found["message"]


def test_remote_code_and_a_cache_cut_short_are_refused(home, published):
    config = json.loads((published / "config.json").read_text())
    code = {"auto_map": {"AutoModel": "modeling_tiny.Tiny"}}
    (published / "config.json").write_text(json.dumps(config | code))
    with FakeHub(published) as hub:
        assert find(home, hub.url)[0]["reason"] == "unsafe"
    [snapshot] = home.glob("hub/models--org--name/snapshots/*")
    (snapshot / "model.safetensors").unlink()
    assert find(home, NOBODY, {"offline": True})[0]["reason"] == "not_found"


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("org/name", True),
        ("sentence-transformers/all-MiniLM-L6-v2", True),
        ("a/b/c", False),
        ("../name", False),
        ("a", False),
    ],
)
def test_what_is_a_hub_id(name, is_one):
    assert (REPOSITORY.fullmatch(name) is not None) is is_one
