"""`make chaos`: faults on a whole pipeline of real processes, and whether it kept its promises. Prints one JSON object.

Exit code 0: nothing lost, nothing doubled, nothing unknown, every replay equal, every negative control caught; else 1.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from random import Random

from infra.durations import parse_seconds
from tests.chaos import disks
from tests.chaos.checker import Verdict
from tests.chaos.cluster import PARTITIONS, Cluster
from tests.chaos.controls import CONTROLS, run_controls
from tests.chaos.faults import DiskFull, Run
from tests.chaos.patches import PRECISE
from tests.chaos.recovery import Work, answer_times, recovery, report_times, window_times
from tests.chaos.scenario import BEGIN_SECONDS, finish, recovers, say, servers_of
from tests.chaos.schedule import fault_of, planned
from tests.chaos.workload import Workload


def fills_disks(options: argparse.Namespace) -> bool:
    """Whether a full disk is among the faults that were asked for."""
    return options.only in (None, "run") and (
        not options.fault or any(isinstance(one, DiskFull) for one in options.fault)
    )


def main_run(
    folder: Path, seed: int, options: argparse.Namespace, with_disks: bool, after_faults: Callable[[], object]
) -> tuple[Verdict, dict]:
    """`after_faults` is called when they are over and times do not matter any more."""
    # The sender draws at times of its own: with one source for both, the faults were others each time.
    random, of_traffic = Random(f"{seed} faults"), Random(f"{seed} traffic")
    cluster = Cluster(folder / "run", ledgers=1, patches=PRECISE, with_disks=with_disks)
    for number, step_ms in enumerate((600_000, -600_000)):
        stepping = {"CHAOS_PATCHES": f"{PRECISE} step_clock", "CHAOS_CLOCK_MS": str(step_ms)}
        cluster.workers[number] = cluster.new_worker(number + 1, **stepping)
        cluster.jobs[number] = cluster.new_job(number + 1, **stepping)
    try:
        cluster.start()
        workload = Workload(f"127.0.0.1:{cluster.kafka_proxy.port}", of_traffic, PARTITIONS, rate=options.rate)
        workload.start()
        run = Run(cluster, workload, random)
        if not recovers(cluster, BEGIN_SECONDS):
            raise RuntimeError(f"the pipeline did not begin to work: {cluster.describe()}")
        say("rows arrive; the faults begin")
        done, slow, idle = break_it(run, options)
        say("the faults are over: drain, stop, replay, check")
        after_faults()
        verdict = finish(cluster, workload)
        told, never = recovery(run.kills, work_done(cluster, workload))
        verdict.found("never_recovered", never)
        if not options.fault and not verdict.figures.get("replayed_anomalies"):
            verdict.found("unfinished", ["the replay had no anomaly to compare: nothing is known of them"])
        figures = {
            "faults": done,
            "kills": len(run.kills),
            "not_recovered_in_60_s": slow,
            "came_to_nothing": idle,
            "unsure": workload.unsure,
            "recovery_seconds": told,
        }
        return verdict, figures
    finally:
        cluster.stop()


def break_it(run: Run, options: argparse.Namespace) -> tuple[int, list[str], list[str]]:
    """One fault after the other, of those that the machine allows. How many, after which it did not recover, and which
    did not come about: a death waits for somebody to come by."""
    cluster, done, slow, idle = run.cluster, 0, [], []
    chosen = planned(
        run.random, lambda: len(run.kills), seconds=options.seconds, kills_max=options.kills, only=options.fault
    )
    for fault in chosen:
        if isinstance(fault, DiskFull) and not cluster.disks:
            continue
        say(f"{fault.name}")
        try:
            fault.start(run)
        except TimeoutError as error:
            say(f"  it came to nothing: {error}")
            idle.append(fault.name)
        cluster.wait(fault.seconds)
        fault.heal(run)
        healed, done = time.monotonic(), done + 1
        if not recovers(cluster):
            slow.append(fault.name)
        sent = len(run.workload.acknowledged)
        say(f"  rows again {time.monotonic() - healed:.1f} s after it was over; {sent} sent")
    return done, slow, idle


def work_done(cluster: Cluster, workload: Workload) -> Work:
    servers = servers_of(cluster)
    windows = servers.read("inference.windows")
    return Work(answer_times(servers), window_times(windows), report_times(windows), workload.last_asked_ms)


def controls_run(options: argparse.Namespace, folder: Path, seed: int) -> dict:
    """What the controls showed, for the summary."""
    chosen = [options.only] if options.only in CONTROLS else list(CONTROLS)
    found = run_controls(chosen, folder, seed)
    told: dict = {"controls": found, "controls_caught": as_they_must(found), "controls_total": len(found)}
    if options.positive or options.seconds is not None or options.kills is not None:
        found = run_controls(chosen, folder, seed, positive=True)
        told |= {"positives": found, "positives_clean": as_they_must(found), "positives_total": len(found)}
    return told


def as_they_must(found: dict[str, dict]) -> int:
    """How many came out as they must."""
    return sum(one["as_it_must"] for one in found.values())


def all_as_they_must(told: dict) -> bool:
    """Whether all controls came out as they must."""
    negative = told["controls_caught"] == told["controls_total"]
    return negative and told.get("positives_clean") == told.get("positives_total")


def failures(summary: dict) -> dict:
    """What of a summary is not as it must be; said last, as the end of a log is what one sees of it."""
    found = {name: summary[name] for name in (*Verdict.FAULTS, "not_recovered_in_60_s") if summary.get(name)}
    if summary.get("audit_agrees") is False:
        found["audit_agrees"] = False
    if found:
        found["named"] = summary["named"]
    for kind in ("controls", "positives"):
        if wrong := {name: one for name, one in summary.get(kind, {}).items() if not one["as_it_must"]}:
            found[kind] = wrong
    return found


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make chaos ARGS=...",
        description=__doc__,
        epilog='Example: make chaos ARGS="--for 1h --seed 7". Without --for or --kills: the short form, ten minutes.',
    )
    parser.add_argument("--seed", type=int, help="of the schedule and the traffic; by default another each time")
    parser.add_argument("--for", dest="seconds", type=parse_seconds, help="how long faults go on: 10m, 1h")
    parser.add_argument("--kills", type=int, help="faults go on until so many processes were killed")
    parser.add_argument(
        "--fault",
        action="append",
        type=fault_of,
        help="only this one, such as Kill:worker or Away:kafka:30; again for more",
    )
    parser.add_argument("--rate", type=float, default=60.0, help="requests a second (60)")
    parser.add_argument("--only", choices=("run", "controls", *CONTROLS), help="a part of it")
    parser.add_argument(
        "--positive", action="store_true", help="each control with its protection on, too; so with --for and --kills"
    )
    parser.add_argument("--keep", action="store_true", help="keep the folder of logs and data")
    parser.add_argument("--folder", type=Path, help="where logs and data go; by default a temporary folder")
    return parser.parse_args(arguments)


def main() -> int:
    options = options_of()
    wants_disks = fills_disks(options)
    no_disks = disks.enter() if wants_disks else None
    seed = options.seed if options.seed is not None else time.time_ns() % 1_000_000
    folder = options.folder or Path(tempfile.mkdtemp(prefix="inferwatch-chaos-"))
    say(f"seed {seed}, folder {folder}")
    began = time.monotonic()
    summary: dict = {"seed": seed}
    if no_disks is not None:
        say(f"LEFT OUT: the fault DiskFull, because {no_disks}")
        summary["left_out"] = {"DiskFull": no_disks}
    clean = True
    controls: list[Future[dict]] = []
    with ThreadPoolExecutor(1) as beside:

        def begin_controls() -> None:
            if options.only != "run" and not controls:
                controls.append(beside.submit(controls_run, options, folder, seed))

        if options.only in (None, "run"):
            try:
                verdict, figures = main_run(folder, seed, options, wants_disks and no_disks is None, begin_controls)
            except BaseException as error:
                if controls:  # their thread is waited for before the traceback is shown
                    say(f"the run broke off with {type(error).__name__}: {error}; waiting for the controls to end")
                raise
            summary |= verdict.as_dict() | figures
            clean = verdict.is_clean and not figures["not_recovered_in_60_s"]
            say(f"the run is {'clean' if clean else 'NOT clean'}: {json.dumps(verdict.counts())}")
        begin_controls()
        for one in controls:
            summary |= one.result()
            clean = all_as_they_must(summary) and clean
    summary["seconds"] = round(time.monotonic() - began)
    print(json.dumps(summary, indent=2))
    if clean and not options.keep and options.folder is None:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        say(f"logs and data are kept in {folder}")
    if no_disks is not None:
        say(f"LEFT OUT, and not shown by this run: the fault DiskFull, because {no_disks}")
    if not clean:
        say(f"NOT clean: {json.dumps(failures(summary))}")
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
