"""Supervised children as real processes: ready, restarted, stopped in order, never left behind."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from infra.clock import SystemClock
from infra.up.children import Children, ChildSpec
from infra.up.supervision import ChildState

OBEYS = "import signal,sys,time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); print('up', flush=True)\n"
READY = OBEYS + 'print(\'{"ready": true, "port": 7}\', flush=True)\n'
SLEEP = "while True: time.sleep(0.05)\n"
STUBBORN = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('{\"ready\": true}', flush=True)\n"
GRANDCHILD = "import subprocess,sys; p = subprocess.Popen(['sleep', '300']); print(p.pid, flush=True)\n"


def spec(name: str, code: str, **more) -> ChildSpec:
    return ChildSpec(name, (sys.executable, "-c", code), **more)


@pytest.fixture
def run(tmp_path):
    """Makes children; whatever is left at the end is killed and the test fails."""
    made: list[Children] = []
    said: list[str] = []

    def make(*specs: ChildSpec) -> tuple[Children, list[str]]:
        made.append(Children(specs, tmp_path, SystemClock(), said.append))
        return made[-1], said

    yield make
    for children in made:
        children.stop(None, lambda: bool(time.sleep(0.01)) or True)
        children.close()


def pause() -> bool:
    time.sleep(0.01)
    return False


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_child_is_ready_when_it_says_so_and_others_follow(run, until):
    children, _ = run(
        spec("kafka", "import time; time.sleep(0.3)\n" + READY + SLEEP, says_ready=True),
        spec("worker", OBEYS + SLEEP, needs=frozenset({"kafka"}), stop_rank=1),
    )
    milestones: set[str] = set()
    children.look(milestones)
    assert children.by_name["kafka"].state is ChildState.STARTING
    assert children.by_name["worker"].state is ChildState.PLANNED
    until(lambda: children.look(milestones) or {"kafka", "worker"} <= milestones, "both run")
    assert children.by_name["kafka"].facts == {"ready": True, "port": 7}


def test_a_child_that_ends_is_started_again_and_it_is_said(run, until):
    children, said = run(spec("jobs", "import sys; sys.exit(70)"))
    until(lambda: children.look(set()) or children.by_name["jobs"].history.restarts >= 2, "two restarts", 20.0)
    assert "exit code 70, internal error" in said[0]
    assert "Starts again in 0.5 s" in said[0]
    assert "Starts again in 1 s" in said[1]


def test_a_killed_child_comes_back(run, until):
    children, said = run(spec("worker", OBEYS + SLEEP))
    children.look(set())
    first = children.by_name["worker"].pid
    os.kill(first, signal.SIGKILL)
    until(lambda: children.look(set()) or children.by_name["worker"].pid not in (None, first), "it is back")
    assert "killed by signal 9" in said[0]


def test_a_refused_setting_is_final(run, until):
    children, _ = run(spec("worker", "import sys; print('INFERWATCH_X=1: no', file=sys.stderr); sys.exit(78)"))
    until(lambda: children.look(set()) or children.by_name["worker"].state is ChildState.FAILED, "it failed")
    assert children.by_name["worker"].exit_status == 78
    assert list(children.by_name["worker"].log.recent) == ["INFERWATCH_X=1: no"]


def test_a_command_that_is_not_there_is_said(run, until):
    children, said = run(ChildSpec("worker", ("/no/such/program",)))
    until(lambda: children.look(set()) or said, "it is said")
    assert "exit code" in said[0]


def test_stopping_goes_rank_by_rank(run, until, tmp_path):
    order = tmp_path / "order"
    code = (
        "import signal,sys,time\n"
        "def stop(*_):\n"
        f"    time.sleep(0.2); open({str(order)!r}, 'a').write(sys.argv[1] + ' '); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "print('{\"ready\": true}', flush=True)\n"
    ) + SLEEP
    children, _ = run(
        *(
            ChildSpec(name, (sys.executable, "-c", code, name), stop_rank=rank, says_ready=True)
            for rank, name in ((4, "kafka"), (1, "worker"), (0, "simulator"))
        )
    )
    until(lambda: children.look(set()) or all(c.is_ready for c in children.by_name.values()), "all run")
    children.stop(None, pause)
    assert order.read_text() == "simulator worker kafka "
    assert all(child.state is ChildState.STOPPED for child in children.by_name.values())


def test_one_that_does_not_stop_is_killed_at_its_deadline(run, until):
    children, said = run(spec("jobs", STUBBORN + SLEEP, stop_seconds=0.3, says_ready=True))
    until(lambda: children.look(set()) or children.by_name["jobs"].is_ready, "it runs")
    pid = children.by_name["jobs"].pid
    children.stop(None, pause)
    assert not alive(pid)
    assert said == ["jobs did not stop in 0.3 s: killed"]


def test_no_time_left_kills_at_once(run, until):
    children, _ = run(spec("jobs", STUBBORN + SLEEP, stop_seconds=100.0, says_ready=True))
    until(lambda: children.look(set()) or children.by_name["jobs"].is_ready, "it runs")
    began = time.monotonic()
    children.stop(None, lambda: bool(time.sleep(0.01)) or True)
    assert time.monotonic() - began < 5.0


def test_what_a_child_started_goes_with_it(run, until):
    children, _ = run(spec("kafka", GRANDCHILD + STUBBORN + SLEEP, stop_seconds=0.2, says_ready=True))
    until(lambda: children.look(set()) or children.by_name["kafka"].is_ready, "it runs")
    grandchild = int(children.by_name["kafka"].log.recent[0])
    assert alive(grandchild)
    children.stop(None, pause)
    until(lambda: not alive(grandchild), "the grandchild has gone")


def test_children_end_with_a_parent_that_is_killed(until, tmp_path):
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from infra.clock import SystemClock\nfrom infra.up.children import Children, ChildSpec\n"
        "spec = ChildSpec('worker', (sys.executable, '-c', 'import time; time.sleep(300)'))\n"
        "children = Children([spec], Path(sys.argv[1]), SystemClock(), print)\n"
        "children.look(set())\nprint(children.by_name['worker'].pid, flush=True)\ntime.sleep(300)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert alive(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until(lambda: not alive(child), "the child has gone")
