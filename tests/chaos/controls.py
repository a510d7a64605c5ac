"""Negative controls: a protection is switched off in the child processes, and the checker must see what comes of it.

That it sees nothing of the same faults while the protection is on is what the run itself shows.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.chaos.checker import Verdict
from tests.chaos.cluster import PARTITIONS, Cluster
from tests.chaos.faults import Fault, Kill, LostReplies, Precise, Run, ZombieBeforeManifest
from tests.chaos.scenario import finish, recovers, say
from tests.chaos.workload import Workload

DRAIN_SECONDS = 8.0
"""What is lost does not come: the controls do not wait for it as long as the run does."""
AT_A_TIME = 2
"""Controls that run side by side: each mostly waits for sessions to end."""
TRIES = 3
"""Of each control: whether its fault hits what is unprotected depends on the moment."""


@dataclass(frozen=True)
class Control:
    """A protection, what switches it off, the fault that it protects from, and what the verdict must then show."""

    switch_off: str
    fault: Fault
    must_show: str
    with_final: bool = True
    """False: the views do not merge what is there twice."""
    settings: dict[str, str] = field(default_factory=dict)
    poison: float = 0.0
    replay: bool = False
    workers: int = 1
    jobs: int = 1


class NoFault(Fault):
    """Nothing: traffic is enough."""

    seconds = 4.0

    def start(self, run: Run) -> None:
        pass


CONTROLS = {
    "offset in state": Control(
        "no_offset_in_state", Precise("die_between_state_and_commit"), "state_mismatch", replay=True
    ),
    "barrier order": Control(
        "commit_first", Precise("commit_first"), "lost", settings={"INFERWATCH_JOBS_ROW_FLUSH_SECONDS": "60"}
    ),
    "owner epoch": Control("no_owner", ZombieBeforeManifest(), "state_mismatch", replay=True, jobs=2),
    "request identity": Control("no_identity", Precise("die_between_answer_and_telemetry"), "unknown"),
    "tokens and FINAL": Control("no_tokens", LostReplies(), "visible_duplicates", with_final=False),
    "dead letters": Control("no_dead_letters", NoFault(), "lost", poison=0.2),
    "answers before offsets": Control("store_at_once", Kill("worker"), "lost"),
}


def run_controls(names: Sequence[str], folder: Path, seed: int) -> dict[str, dict]:
    """What each found, see `run_control`; some of them at a time."""
    pool = ThreadPoolExecutor(AT_A_TIME)
    try:
        return dict(zip(names, pool.map(lambda name: run_control(name, folder, seed), names), strict=True))
    finally:
        pool.shutdown(cancel_futures=True)  # its threads end last: the kernel ends a child with the thread that made it


def run_control(name: str, folder: Path, seed: int) -> dict:
    """Whether the checker caught it, what it saw, and in which try: a fault may by chance hit nothing."""
    for number in range(1, TRIES + 1):
        found = _try_control(name, folder / f"try-{number}", seed + number)
        if found["as_it_must"]:
            break
    return found | {"tries": number}


def _try_control(name: str, folder: Path, seed: int) -> dict:
    control, random = CONTROLS[name], Random(seed)
    say(f"negative control: {name} is off")
    precise = "die_between_state_and_commit die_between_answer_and_telemetry stand_still_before_manifest"
    cluster = Cluster(
        folder / name.replace(" ", "-"),
        workers=control.workers,
        jobs=control.jobs,
        patches=f"{precise} {control.switch_off}",
        **control.settings,
    )
    try:
        cluster.start()
        if not control.with_final:
            # Or the table would soon have merged by itself what FINAL merges.
            sizes = ("max_bytes_to_merge_at_max_space_in_pool = 1", "max_bytes_to_merge_at_min_space_in_pool = 1")
            cluster.sql(f"ALTER TABLE requests_stored MODIFY SETTING {', '.join(sizes)}")
            cluster.sql("CREATE OR REPLACE VIEW requests AS SELECT * FROM requests_stored")
        workload = Workload(
            f"127.0.0.1:{cluster.kafka_proxy.port}", random, PARTITIONS, rate=60.0, poison=control.poison
        )
        workload.start()
        begun = control.settings or recovers(cluster, 90.0)
        fault, run = control.fault, Run(cluster, workload, random)
        fault.start(run)
        cluster.wait(fault.seconds)
        fault.heal(run)
        if not begun or not (control.settings or recovers(cluster)):
            say(f"  {name}: it did not work at all, or not again")
        cluster.wait(2.0)
        verdict = finish(cluster, workload, drain_seconds=DRAIN_SECONDS, replay=control.replay)
    except Exception as error:  # a control that could not be carried out has caught nothing
        say(f"  {name}: {error!r}")
        return {"as_it_must": False, "error": repr(error)}
    finally:
        cluster.stop()
    return {"as_it_must": getattr(verdict, control.must_show) > 0, "must_show": control.must_show, **seen(verdict)}


def seen(verdict: Verdict) -> dict:
    return {name: getattr(verdict, name) for name in verdict.FAULTS if getattr(verdict, name)}
