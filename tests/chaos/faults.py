"""What can go wrong, one small class each: `start` makes it so, `heal` ends it. Chosen by a seeded schedule."""

import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.chaos.cluster import SESSION_MS, Cluster
from tests.chaos.processes import Managed
from tests.chaos.workload import Workload


@dataclass
class Run:
    """What faults act upon, and what they leave behind for the account."""

    cluster: Cluster
    workload: Workload
    random: Random
    kills: list[tuple[str, int]] = field(default_factory=list)
    """(kind of process, when in epoch milliseconds) of every SIGKILL."""

    def kill(self, kind: str, one: Managed) -> None:
        if not one.alive:
            return
        peers = self.peers(kind)
        if peers and not any(peer.works for peer in peers if peer is not one):
            kind += ", the last one"
        self.kills.append((kind, time.time_ns() // 1_000_000))
        if kind == "kafka" and one.facts is not None:
            self.signal_server(kind, signal.SIGKILL)
        else:
            one.kill()

    def peers(self, kind: str) -> list[Managed]:
        """Workers or jobs, one of which takes over from another; of all else there is one."""
        return {"worker": self.cluster.workers, "job": self.cluster.jobs}.get(kind, [])

    def signal_server(self, kind: str, number: int) -> None:
        """To the process that serves: Kafka's is a child of ours."""
        one = self.one_of(kind)
        one.signal(number, one.facts["java_pid"] if kind == "kafka" and one.facts else None)

    def one_of(self, kind: str) -> Managed:
        cluster = self.cluster
        of = {
            "worker": cluster.workers,
            "job": cluster.jobs,
            "ledger": cluster.ledgers,
            "kafka": [cluster.kafka],
            "clickhouse": [cluster.clickhouse],
        }
        return self.random.choice([one for one in of[kind] if one.alive] or of[kind])


class Fault:
    """`seconds` lie between start and heal."""

    seconds = 0.0

    @property
    def name(self) -> str:
        return type(self).__name__

    def start(self, run: Run) -> None:
        raise NotImplementedError

    def heal(self, run: Run) -> None:
        """By default there is nothing to do: who was killed is started again."""


class Kill(Fault):
    """SIGKILL, at any instant."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    @property
    def name(self) -> str:
        return f"Kill {self.kind}"

    def start(self, run: Run) -> None:
        # How long one takes that has a peer left is a figure; both at once, and the last one, come in other faults.
        run.cluster.until(lambda: all(one.works for one in run.peers(self.kind)), f"each {self.kind} works", 60.0)
        run.cluster.wait(run.random.uniform(0.0, 1.0))
        run.kill(self.kind, run.one_of(self.kind))


class KillTwo(Fault):
    """SIGKILL of a worker and a job at once."""

    def start(self, run: Run) -> None:
        for kind in ("worker", "job"):
            run.kill(kind, run.one_of(kind))


class Restart(Fault):
    """SIGTERM of a worker and a job; they stop in order and come back."""

    def start(self, run: Run) -> None:
        for kind in ("worker", "job"):
            one = run.one_of(kind)
            one.stop()
            one.wanted = True


class Zombie(Fault):
    """Stopped past its session, and continued when others own what it had; of a ledger there is one, so what it had is
    nobody's meanwhile, and it has to notice that its group went on without it."""

    seconds = SESSION_MS / 1000 + 3

    def __init__(self, kind: str) -> None:
        self.kind = kind

    @property
    def name(self) -> str:
        return f"Zombie {self.kind}"

    def start(self, run: Run) -> None:
        self.one = run.one_of(self.kind)
        if self.one.alive:
            self.one.signal(signal.SIGSTOP)

    def heal(self, run: Run) -> None:
        if self.one.alive:
            self.one.signal(signal.SIGCONT)


class Precise(Fault):
    """A death at one instruction, armed now: see `patches`."""

    def __init__(self, where: str) -> None:
        self.where = where

    @property
    def name(self) -> str:
        return f"Precise {self.where}"

    def start(self, run: Run) -> None:
        run.cluster.arm(self.where)
        run.cluster.until(lambda: run.cluster.is_marked(self.where), self.where, 60.0)


class ZombieBeforeManifest(Fault):
    """A job stands still inside its snapshot, between the pages and the manifest that names them. When another has long
    owned its partitions it writes the manifest, or ends. Then the owner dies: the next one reads what there is."""

    def start(self, run: Run) -> None:
        cluster, name = run.cluster, "stand_still_before_manifest"
        wrote = cluster.folder / "zombie-wrote"
        wrote.unlink(missing_ok=True)
        cluster.arm(name)
        try:
            cluster.until(lambda: cluster.is_marked(name), name, 60.0)
            told = {job: len(job.log()) for job in cluster.jobs if not job.stands_still}
            cluster.wait(SESSION_MS / 1000 + 6.0)
            cluster.until(
                lambda: any("taken over at" in job.log()[length:] for job, length in told.items()),
                "another job owns what the zombie did",
                60.0,
            )
            cluster.wait(2.0)  # and has written of its own
        finally:
            cluster.disarm(name)
            has_ended = cluster.continue_stopped()
        cluster.until(lambda: wrote.exists() or has_ended(), "the zombie writes, or ends", 30.0)
        for job in cluster.jobs:
            run.kill("every job", job)


class Away(Fault):
    """A server that is stopped in order and started again after a while."""

    def __init__(self, kind: str, seconds: float) -> None:
        self.kind, self.seconds = kind, seconds

    @property
    def name(self) -> str:
        return f"Away {self.kind} {self.seconds:g} s"

    def start(self, run: Run) -> None:
        run.one_of(self.kind).stop(20.0)

    def heal(self, run: Run) -> None:
        run.one_of(self.kind).wanted = True


class DiskFull(Fault):
    """The disk of a store has no room for a while, and what the store frees is taken, too. Then there is room again.

    Every other time the store is killed meanwhile, and has to begin again where it cannot. That is not a kill of the
    account: how long it takes to recover is the disk's doing.
    """

    def __init__(self, kind: str, full_seconds: float) -> None:
        self.kind, self.full_seconds = kind, full_seconds

    @property
    def name(self) -> str:
        return f"DiskFull {self.kind} {self.full_seconds:g} s"

    def start(self, run: Run) -> None:
        disk, store = run.cluster.disks[self.kind], run.one_of(self.kind)
        killed_after = run.random.choice((run.random.uniform(0.0, self.full_seconds), float("inf")))
        disk.fill()
        began = time.monotonic()
        while (passed := time.monotonic() - began) < self.full_seconds:
            disk.fill()
            if passed > killed_after:
                store.kill()
                killed_after = float("inf")
            run.cluster.wait(0.25)

    def heal(self, run: Run) -> None:
        run.cluster.disks[self.kind].free()


class Cut(Fault):
    """No byte goes through to a server."""

    def __init__(self, kind: str, seconds: float) -> None:
        self.kind, self.seconds = kind, seconds

    @property
    def name(self) -> str:
        return f"Cut {self.kind}"

    def start(self, run: Run) -> None:
        getattr(run.cluster, f"{self.kind}_proxy").cut()

    def heal(self, run: Run) -> None:
        getattr(run.cluster, f"{self.kind}_proxy").heal()


class Slow(Fault):
    """Every piece takes `lag` seconds longer, both ways."""

    seconds = 8.0

    def __init__(self, kind: str, lag: float) -> None:
        self.kind, self.lag = kind, lag

    @property
    def name(self) -> str:
        return f"Slow {self.kind}"

    def start(self, run: Run) -> None:
        getattr(run.cluster, f"{self.kind}_proxy").lag_seconds = self.lag

    def heal(self, run: Run) -> None:
        getattr(run.cluster, f"{self.kind}_proxy").heal()


class BrokenInserts(Fault):
    """ClickHouse sees the first kilobytes of an insert, and then the connection is gone."""

    seconds = 5.0

    def start(self, run: Run) -> None:
        proxy = run.cluster.clickhouse_proxy
        proxy.break_after_bytes, proxy.bodies_to_break = run.random.choice((700, 2_000, 6_000)), 12
        proxy.drop_all()

    def heal(self, run: Run) -> None:
        run.cluster.clickhouse_proxy.heal()


class LostReplies(Fault):
    """ClickHouse has stored a block, and its answer never comes."""

    seconds = 5.0

    def start(self, run: Run) -> None:
        run.cluster.clickhouse_proxy.replies_to_swallow = 40  # more than come in that time

    def heal(self, run: Run) -> None:
        run.cluster.clickhouse_proxy.heal()


class Storm(Fault):
    """A third worker and a third job come, and one of three goes, again and again."""

    seconds = 2.0

    def start(self, run: Run) -> None:
        cluster = run.cluster
        third = [cluster.new_worker(3), cluster.new_job(3)]
        cluster.workers.append(third[0])
        cluster.jobs.append(third[1])
        for one in third:
            one.start()
        for _ in range(3):
            cluster.wait(run.random.uniform(2.0, 5.0))
            for kind in ("worker", "job"):
                run.kill(kind, run.one_of(kind))

    def heal(self, run: Run) -> None:
        for group in (run.cluster.workers, run.cluster.jobs):
            group.pop().stop()


class HangingEngine(Fault):
    """Every forward pass hangs for 8 seconds, in all workers."""

    seconds = 6.0

    def start(self, run: Run) -> None:
        run.cluster.inferwatch("drill", "latency", "--duration", "6s", "--delay-ms", "8000")


class ClockStep(Fault):
    """The clocks of a worker and a job are ahead for a while, those of the others behind: see `patches.step_clock`."""

    seconds = 5.0

    def start(self, run: Run) -> None:
        self.flag = Path(run.cluster.folder) / "clock-steps"
        self.flag.touch()

    def heal(self, run: Run) -> None:
        self.flag.unlink()


class HungEngine(Fault):
    """The engine of a worker begins a forward pass and never ends it. A watchdog looks after that worker, a third one,
    and has to start it again: nobody else does."""

    def start(self, run: Run) -> None:
        cluster, name, ended = run.cluster, "hang_for_good", "is ended and started again"
        watched = cluster.watched_worker(3, CHAOS_PATCHES=f"{cluster.environment['CHAOS_PATCHES']} {name}")
        self.watched = watched
        cluster.workers.append(watched)
        watched.start()
        cluster.until(lambda: watched.works, "the third worker works", 60.0)
        cluster.arm(name)
        cluster.until(lambda: cluster.is_marked(name), name, 60.0)
        cluster.until(lambda: ended in watched.log(), "the watchdog ends it", 60.0)
        cluster.until(lambda: "assigned" in watched.log().rpartition(ended)[2], "it works again", 60.0)

    def heal(self, run: Run) -> None:
        run.cluster.workers.remove(self.watched)
        self.watched.stop()


class Frozen(Fault):
    """A server that stands still, with its connections open, for longer than its clients wait for an answer."""

    def __init__(self, kind: str, seconds: float) -> None:
        self.kind, self.seconds = kind, seconds

    @property
    def name(self) -> str:
        return f"Frozen {self.kind} {self.seconds:g} s"

    def start(self, run: Run) -> None:
        run.signal_server(self.kind, signal.SIGSTOP)

    def heal(self, run: Run) -> None:
        run.signal_server(self.kind, signal.SIGCONT)
