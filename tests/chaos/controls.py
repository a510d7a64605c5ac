"""Controls: a protection is switched off in the child processes, and the checker must see what comes of it.

With `positive`, the same set-up and the same fault with the protection on: then it must see nothing.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.chaos import patches
from tests.chaos.checker import Verdict
from tests.chaos.cluster import PARTITIONS, Cluster
from tests.chaos.faults import Fault, Kill, LostReplies, Precise, Run, ZombieBeforeManifest
from tests.chaos.scenario import BEGIN_SECONDS, DRAIN_SECONDS, finish, recovers, say
from tests.chaos.workload import Workload

SHORT_DRAIN_SECONDS = 6.0
"""What is lost does not come, and what is not there yet is not counted as lost: see `finish`."""
AT_A_TIME = 3
"""Controls that run side by side: each mostly waits for sessions to end."""
TRIES = 3
"""Of each control: whether its fault hits what is unprotected depends on the moment."""
REASON_LENGTH_MAX = 300


@dataclass(frozen=True)
class Control:
    """A protection, what switches it off, the fault that it protects from, and what the verdict must then show."""

    switch_off: str
    fault: Fault
    must_show: str
    audit_must_differ: bool = False
    """Whether `inferwatch audit counts` must see it, too."""
    patched: str = ""
    """What else is patched, also while the protection is on."""
    with_final: bool = True
    """False: with the protection off, the views do not merge what is there twice."""
    settings: dict[str, str] = field(default_factory=dict)
    poison: float = 0.02
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
        "commit_first",
        Precise("die_after_commit"),
        "lost",
        patched="die_after_commit",
        settings={"INFERWATCH_JOBS_ROW_FLUSH_SECONDS": "60"},
    ),
    "owner epoch": Control("no_owner", ZombieBeforeManifest(), "state_mismatch", replay=True, jobs=2),
    "request identity": Control("no_identity", Precise("die_between_answer_and_telemetry"), "unknown"),
    "tokens and FINAL": Control(
        "no_tokens", LostReplies(), "visible_duplicates", audit_must_differ=True, with_final=False
    ),
    "dead letters": Control("no_dead_letters", NoFault(), "lost", poison=0.2),
    "answers before offsets": Control("store_at_once", Kill("worker"), "lost", patched="slow"),
}


def run_controls(names: Sequence[str], folder: Path, seed: int, positive: bool = False) -> dict[str, dict]:
    """What each found, see `run_control`; some of them at a time."""
    pool = ThreadPoolExecutor(AT_A_TIME)
    try:
        found = pool.map(lambda name: run_control(name, folder, seed, positive), names)
        return dict(zip(names, found, strict=True))
    finally:
        pool.shutdown(cancel_futures=True)  # its threads end last: the kernel ends a child with the thread that made it


def run_control(name: str, folder: Path, seed: int, positive: bool = False) -> dict:
    """Whether it came out as it must, what was seen, and in which try: a fault may by chance hit nothing. With the
    protection on there is one try: what must not happen may not happen once."""
    for number in range(1, (1 if positive else TRIES) + 1):
        found = _try_control(name, folder / f"{'on' if positive else 'off'}-{number}", seed + number, positive)
        if found["as_it_must"]:
            break
        say(f"  {name}: try {number} did not come out as it must: {found}")
    return found | {"tries": number}


def _try_control(name: str, folder: Path, seed: int, positive: bool) -> dict:
    control, random, of_traffic = CONTROLS[name], Random(f"{seed} faults"), Random(f"{seed} traffic")
    say(f"{'positive' if positive else 'negative'} control: {name} is {'on' if positive else 'off'}")
    cluster = Cluster(
        folder / name.replace(" ", "-"),
        workers=control.workers,
        jobs=control.jobs,
        patches=f"{patches.PRECISE} {control.patched} {'' if positive else control.switch_off}",
        **control.settings,
    )
    try:
        cluster.start()
        if not control.with_final and not positive:
            read_without_final(cluster)
        workload = Workload(
            f"127.0.0.1:{cluster.kafka_proxy.port}", of_traffic, PARTITIONS, rate=60.0, poison=control.poison
        )
        workload.start()
        if not recovers(cluster, BEGIN_SECONDS):
            raise RuntimeError(f"it did not begin to work: {cluster.describe()}")
        fault, run = control.fault, Run(cluster, workload, random)
        fault.start(run)
        cluster.wait(fault.seconds)
        fault.heal(run)
        if not recovers(cluster, BEGIN_SECONDS):
            raise RuntimeError(f"it did not work again: {cluster.describe()}")
        verdict = finish(
            cluster,
            workload,
            drain_seconds=DRAIN_SECONDS if positive else SHORT_DRAIN_SECONDS,
            replay=control.replay,
            only_for_good=not positive,
        )
    except Exception as error:  # a control that could not be carried out has shown nothing
        say(f"  {name}: {error!r}")
        return {"as_it_must": False, "error": repr(error)[:REASON_LENGTH_MAX]}
    finally:
        cluster.stop()
    as_it_must = verdict.is_clean if positive else is_caught(control, verdict)
    return {"as_it_must": as_it_must, "must_show": "nothing" if positive else control.must_show, **seen(verdict)}


def read_without_final(cluster: Cluster) -> None:
    """The view shows what the table holds, and the table does not merge by itself what FINAL would."""
    sizes = ("max_bytes_to_merge_at_max_space_in_pool = 1", "max_bytes_to_merge_at_min_space_in_pool = 1")
    cluster.sql(f"ALTER TABLE requests_stored MODIFY SETTING {', '.join(sizes)}")
    cluster.sql("CREATE OR REPLACE VIEW requests AS SELECT * FROM requests_stored")


def is_caught(control: Control, verdict: Verdict) -> bool:
    """Whether the verdict shows what it must, of a run whose jobs came to their end."""
    shown = getattr(verdict, control.must_show) > 0 and not verdict.unfinished
    return shown and not (control.audit_must_differ and verdict.audit_agrees is not False)


def seen(verdict: Verdict) -> dict:
    """What the verdict shows, with the reasons, the first few and not too long."""
    counts = {name: getattr(verdict, name) for name in verdict.FAULTS if getattr(verdict, name)}
    why = {name: [one[:REASON_LENGTH_MAX] for one in reasons] for name, reasons in verdict.named.items() if reasons}
    return {**counts, "audit_agrees": verdict.audit_agrees, "why": why}
