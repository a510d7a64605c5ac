"""`make chaos`: faults on a whole pipeline of real processes, and whether it kept its promises. Prints one JSON object.

Exit code 0: nothing lost, nothing doubled, nothing unknown, every replay equal, every negative control caught; else 1.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from infra.durations import parse_seconds
from tests.chaos import disks
from tests.chaos import faults as f
from tests.chaos.checker import Verdict
from tests.chaos.cluster import PARTITIONS, Cluster
from tests.chaos.controls import CONTROLS, run_controls
from tests.chaos.recovery import answer_times, recovery, window_times
from tests.chaos.scenario import finish, recovers, say, servers_of
from tests.chaos.workload import Workload

PRECISE = "die_between_state_and_commit die_between_answer_and_telemetry stand_still_before_manifest"


def short_schedule(random: Random) -> list[f.Fault]:
    """Each fault once, kills of each kind a few times, in an order of the seed's."""
    kills = [
        f.Kill(kind)
        for kind, count in (("worker", 2), ("job", 2), ("kafka", 1), ("clickhouse", 1))
        for _ in range(count)
    ]
    once = [
        f.KillTwo(),
        f.Zombie("worker"),
        f.Zombie("job"),
        f.Away("kafka", 6),
        f.Away("clickhouse", 6),
        f.Cut("kafka", 5),
        f.Slow("clickhouse", 0.3),
        f.BrokenInserts(),
        f.LostReplies(),
        f.DiskFull("kafka", 8),
        f.DiskFull("clickhouse", 8),
        f.Poison(),
        f.HangingEngine(),
        f.ClockStep(),
        f.Precise("die_between_state_and_commit"),
        f.Precise("die_between_answer_and_telemetry"),
        f.ZombieBeforeManifest(),
    ]
    chosen = kills + once
    random.shuffle(chosen)
    return [*chosen, f.RetentionPasses(), f.TopicMadeAnew()]


def long_round(random: Random, number: int) -> list[f.Fault]:
    """Many kills, and everything else now and then."""
    kinds = ("worker",) * 9 + ("job",) * 9 + ("kafka",) * 4 + ("clickhouse",) * 4
    chosen: list[f.Fault] = [f.Kill(kind) for kind in kinds]
    more = [
        [f.Zombie("worker"), f.Zombie("job"), f.LostReplies(), f.Away("kafka", 30)],
        [f.Storm(), f.BrokenInserts(), f.Cut("kafka", 8), f.Poison(), f.DiskFull("kafka", random.uniform(2, 30))],
        [f.KillTwo(), f.Slow("kafka", 0.05), f.Slow("clickhouse", 0.3), f.HangingEngine(), f.ZombieBeforeManifest()],
        [
            f.Away("clickhouse", 60),
            f.Cut("clickhouse", 10),
            f.DiskFull("clickhouse", random.uniform(2, 30)),
            f.ClockStep(),
            f.Restart(),
        ],
    ]
    chosen += more[number % len(more)]
    random.shuffle(chosen)
    return chosen + ([f.RetentionPasses()] if number % 4 == 3 else [])


def fault_of(text: str) -> f.Fault:
    """`Kill:worker`, `Away:kafka:30`, `Poison`: a class of `faults` and what it is made with."""
    name, *given = text.split(":")
    kind = getattr(f, name, None)
    if not (isinstance(kind, type) and issubclass(kind, f.Fault)):
        raise argparse.ArgumentTypeError(f"no fault {name!r}")
    return kind(*(float(one) if one.replace(".", "").isdigit() else one for one in given))


def schedule(random: Random, options: argparse.Namespace, run: f.Run):
    """The faults of a run, until its time is over or so many were killed; of those that the machine allows."""
    for fault in planned(random, options, run):
        if run.cluster.disks or not isinstance(fault, f.DiskFull):
            yield fault


def planned(random: Random, options: argparse.Namespace, run: f.Run):
    seconds, kills_max = options.seconds, options.kills
    if options.fault:
        yield from options.fault
        return
    if seconds is None and kills_max is None:
        yield from short_schedule(random)
        return
    began, number = time.monotonic(), 0
    while True:
        for fault in long_round(random, number):
            if (seconds is not None and time.monotonic() - began > seconds) or (
                kills_max is not None and len(run.kills) >= kills_max
            ):
                return
            yield fault
        number += 1


def fills_disks(options: argparse.Namespace) -> bool:
    """Whether a full disk is among the faults that were asked for."""
    return options.only in (None, "run") and (
        not options.fault or any(isinstance(one, f.DiskFull) for one in options.fault)
    )


def main_run(folder: Path, seed: int, options: argparse.Namespace, with_disks: bool) -> tuple[Verdict, dict]:
    random = Random(seed)
    cluster = Cluster(folder / "run", patches=PRECISE, with_disks=with_disks)
    for number, step_ms in enumerate((600_000, -600_000)):
        stepping = {"CHAOS_PATCHES": f"{PRECISE} step_clock", "CHAOS_CLOCK_MS": str(step_ms)}
        cluster.workers[number] = cluster.new_worker(number + 1, **stepping)
        cluster.jobs[number] = cluster.new_job(number + 1, **stepping)
    try:
        cluster.start()
        workload = Workload(f"127.0.0.1:{cluster.kafka_proxy.port}", random, PARTITIONS, rate=options.rate)
        workload.start()
        run = f.Run(cluster, workload, random)
        if not recovers(cluster, 90.0):
            raise RuntimeError(f"the pipeline did not begin to work: {cluster.describe()}")
        say("rows arrive; the faults begin")
        done, slow = 0, []
        for fault in schedule(random, options, run):
            say(f"{fault.name}")
            fault.start(run)
            cluster.wait(fault.seconds)
            fault.heal(run)
            healed, done = time.monotonic(), done + 1
            if not recovers(cluster):
                slow.append(fault.name)
            say(f"  rows again {time.monotonic() - healed:.1f} s after it was over; {len(workload.acknowledged)} sent")
        say("the faults are over: drain, stop, replay, check")
        verdict = finish(cluster, workload)
        servers = servers_of(cluster)
        figures = {
            "faults": done,
            "kills": len(run.kills),
            "not_recovered_in_60_s": slow,
            "unsure": workload.unsure,
            "recovery_seconds": recovery(
                run.kills, answer_times(servers), window_times(servers.read("inference.windows"))
            ),
        }
        return verdict, figures
    finally:
        cluster.stop()


def main() -> int:
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
    parser.add_argument("--keep", action="store_true", help="keep the folder of logs and data")
    parser.add_argument("--folder", type=Path, help="where logs and data go; by default a temporary folder")
    options = parser.parse_args()
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
    if options.only in (None, "run"):
        verdict, figures = main_run(folder, seed, options, wants_disks and no_disks is None)
        summary |= verdict.as_dict() | figures
        clean = verdict.is_clean and not figures["not_recovered_in_60_s"]
    if options.only != "run":
        chosen = [options.only] if options.only in CONTROLS else list(CONTROLS)
        found = run_controls(chosen, folder, seed)
        summary["controls"] = found
        summary["controls_caught"] = sum(one["as_it_must"] for one in found.values())
        summary["controls_total"] = len(found)
        clean = clean and summary["controls_caught"] == len(found)
    summary["seconds"] = round(time.monotonic() - began)
    print(json.dumps(summary, indent=2))
    if clean and not options.keep and options.folder is None:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        say(f"logs and data are kept in {folder}")
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
