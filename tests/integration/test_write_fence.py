"""The fence around a process that runs code of others: it holds for later threads, and leaves what is inside alone."""

import json
import subprocess
import sys

import pytest

from tests.integration.front_process import ROOT
from tests.parts import missing

FENCED = """
import json, os, subprocess, sys, tempfile, threading
from pathlib import Path
from infra.embedded.write_fence import fence_writes
inside, outside = Path(sys.argv[1]), Path(sys.argv[2])
seen = {"fenced": fence_writes(inside)}

def attempt(name, act):
    try:
        act()
        seen[name] = "done"
    except OSError as error:
        seen[name] = type(error).__name__

def all_attempts():
    attempt("write inside", lambda: (inside / "new").write_text("x"))
    attempt("move inside", lambda: ((inside / "deep").mkdir(), (inside / "new").rename(inside / "deep" / "new")))
    attempt("nameless inside", lambda: tempfile.TemporaryFile(dir=inside).close())
    attempt("null", lambda: Path(os.devnull).write_text("x"))
    attempt("read outside", lambda: (outside / "old").read_text())
    attempt("write outside", lambda: (outside / "old").write_text("x"))
    attempt("cut outside", lambda: os.truncate(outside / "old", 0))
    attempt("make outside", lambda: (outside / "new").write_text("x"))
    attempt("remove outside", lambda: (outside / "old").unlink())
    attempt("move in", lambda: (outside / "old").rename(inside / "old"))
    attempt("run", lambda: subprocess.run([sys.executable, "-c", ""], check=True))

thread = threading.Thread(target=all_attempts)
thread.start()
thread.join()
print(json.dumps(seen))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the fence is Linux's")
def test_a_fenced_process_writes_only_inside(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "old").write_text("old")
    command = [sys.executable, "-c", FENCED, str(inside), str(outside)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    seen = json.loads(done.stdout)
    if not seen.pop("fenced"):
        missing("Landlock in the kernel")
    allowed = {"write inside", "move inside", "nameless inside", "null", "read outside"}
    assert {name for name, came_of_it in seen.items() if came_of_it == "done"} == allowed
    assert (outside / "old").read_text() == "old"
