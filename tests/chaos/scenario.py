"""The course of a chaos run after its faults: drain, stop, replay the telemetry undisturbed, check."""

import sys
import time

from confluent_kafka import Consumer, KafkaException, TopicPartition

from tests.chaos import patches
from tests.chaos.accounts import check_audit, check_books, is_whole
from tests.chaos.checker import Committed, Verdict, check_requests, check_windows, window_sums
from tests.chaos.cluster import JOBS_GROUP, PARTITIONS, WORKERS_GROUP, Cluster
from tests.chaos.replayed import check_replay
from tests.chaos.servers import Servers
from tests.chaos.workload import TOPIC, Workload

RECOVER_SECONDS = 60.0
"""A promise: see `recovers`."""
BEGIN_SECONDS, DRAIN_SECONDS, JOB_SECONDS, BOOKS_SECONDS = 180.0, 300.0, 300.0, 120.0
"""Far more than these take. Whether something comes is asked, and not when: three controls begin on the same machine
while a run is replayed, and on two slow cores that takes minutes."""
TRY_AGAIN = 75
"""The exit code of what is away; whoever looks after the process starts it again."""


def say(text: str) -> None:
    # In one piece: controls run side by side.
    sys.stderr.write(f"chaos: {time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


def servers_of(cluster: Cluster) -> Servers:
    return Servers(f"127.0.0.1:{cluster.kafka_proxy.port}", f"http://127.0.0.1:{cluster.clickhouse_port}")


def drained(servers: Servers, workload: Workload) -> bool:
    """Whether every request of the topic that there is now has a row, and every row is in a window."""
    try:
        windows, rows = window_sums(servers)
        now = int(servers.text(f"SELECT count() FROM requests WHERE topic_id = '{workload.topic_id}'"))
    except OSError:
        return False
    owed = sum(one.topic_id == workload.topic_id for one in workload.acknowledged) - workload.expected_gone
    return now >= owed and sum(map(sum, rows.values())) == sum(map(sum, windows.values()))


def waits(cluster: Cluster, condition, what: str, seconds: float) -> bool:
    began = time.monotonic()
    try:
        cluster.until(condition, what, seconds, every=0.4)
    except TimeoutError as error:
        say(str(error))
        return False
    if (took := time.monotonic() - began) > seconds / 2:
        say(f"only after {took:.0f} s of {seconds:.0f}: {what}")
    return True


def has_rows_since(cluster: Cluster, at_ms: int) -> bool:
    """Whether every partition has a row of a request that was appended since."""
    try:
        text = cluster.sql(
            "SELECT count() FROM (SELECT partition FROM requests_stored GROUP BY partition "
            f"HAVING max(toUnixTimestamp64Milli(appended_at)) > {at_ms})"
        )
    except OSError:
        return False
    return int(text) >= PARTITIONS


def recovers(cluster: Cluster, seconds: float = RECOVER_SECONDS) -> bool:
    """Whether what is sent from now on arrives in the table."""
    now_ms = time.time_ns() // 1_000_000
    return waits(cluster, lambda: has_rows_since(cluster, now_ms), "rows of new requests in all partitions", seconds)


def finish(
    cluster: Cluster,
    workload: Workload,
    *,
    drain_seconds: float = DRAIN_SECONDS,
    replay: bool = True,
    only_for_good: bool = False,
) -> Verdict:
    """Stop the traffic, wait until all is done, or for `drain_seconds`, and judge.

    `only_for_good`: what may come yet is not lost. For the controls, which cannot wait for what never comes.
    """
    workload.stop()
    servers, verdict = servers_of(cluster), Verdict()
    if not waits(cluster, lambda: drained(servers, workload), "all requests are in rows and windows", drain_seconds):
        verdict.named["notes"].append(f"not drained in {drain_seconds:.0f} s")
    requests_done = servers.committed(WORKERS_GROUP, TOPIC, workload.topic_id)
    for worker in cluster.workers:
        worker.stop()
    books = told_books(cluster, servers) if cluster.ledgers else None
    # It tells of the books on a topic that the jobs read.
    for one in [*cluster.ledgers, *cluster.jobs]:
        one.stop()
    if replay:
        quiet = {"CHAOS_PATCHES": cluster.environment.get("CHAOS_PATCHES", "") + " no_ticks"}
        run_to_end(cluster, "last", JOBS_GROUP, "inference.windows", verdict, **quiet)
    telemetry_done = servers.committed(JOBS_GROUP, "inference.telemetry")
    committed = Committed(requests_done, telemetry_done) if only_for_good else None
    log = check_requests(servers, workload.acknowledged, verdict, workload.deleted, committed)
    check_audit(cluster.ask("audit", "counts", "--json", "--wait", "1s"), verdict)
    check_windows(servers, verdict)
    if books is not None:
        check_books(books, log, servers.end_offsets(TOPIC), verdict)
    if replay and clean_replay(cluster, verdict):
        check_replay(servers, verdict, "replay", patches.PREFIX)
    ends = [(one.name, code) for one in cluster.ever for code in one.unasked if code not in (patches.DEATH, TRY_AGAIN)]
    verdict.found("unasked_ends", [f"{name}: exit code {code}" for name, code in ends])
    return verdict


def told_books(cluster: Cluster, servers: Servers) -> dict:
    """What `inferwatch books` says once the ledger has read all there is, or after a while."""
    ends, deadline = servers.end_offsets(TOPIC), time.monotonic() + BOOKS_SECONDS
    while True:
        books = cluster.ask("books", "--json", "--wait", "1s")
        if is_whole(books, ends) or time.monotonic() > deadline:
            return books
        cluster.wait(0.5)


def clean_replay(cluster: Cluster, verdict: Verdict) -> bool:
    """Score the run's telemetry once more, from its first record, with nobody in the way."""
    replaying = {
        "CHAOS_PATCHES": "replay_topics trust_the_log no_ticks",
        "INFERWATCH_JOBS_GROUP": "replay",
        "INFERWATCH_CLICKHOUSE_DATABASE": "replay",
    }
    cluster.sql("CREATE DATABASE IF NOT EXISTS replay")
    cluster.inferwatch("topics", "apply", **replaying)
    cluster.inferwatch("tables", "apply", **replaying)
    return run_to_end(cluster, "replay", "replay", patches.PREFIX + "inference.windows", verdict, **replaying)


def run_to_end(cluster: Cluster, name: str, group: str, windows: str, verdict: Verdict, **more: str) -> bool:
    """One job alone, until it has committed all there is of its topics; then it is stopped in order."""
    job = cluster.new_job(name, **more)
    cluster.jobs = [job]
    job.start()
    done = waits(
        cluster,
        lambda: "taken over at" in job.log() and all_committed(cluster, group, ["inference.telemetry", windows]),
        f"job {name} is at the end",
        JOB_SECONDS,
    )
    code = job.stop()
    if not done or code != 0:
        verdict.found("unfinished", [f"job {name}: {'at the end' if done else 'not at the end'}, exit code {code}"])
    return done


def all_committed(cluster: Cluster, group: str, topics: list[str]) -> bool:
    consumer = Consumer(
        {"bootstrap.servers": f"127.0.0.1:{cluster.kafka_proxy.port}", "group.id": group, "enable.auto.commit": False}
    )
    try:
        places = [
            TopicPartition(topic, number)
            for topic in topics
            for number in consumer.list_topics(topic, timeout=10).topics[topic].partitions
        ]
        # The windows' ends grow with what is committed of the telemetry: these are asked for first.
        for found in consumer.committed(places, timeout=10):
            _, end = consumer.get_watermark_offsets(found, timeout=10)
            if end != max(found.offset, 0):
                return False
        return True
    except KafkaException:  # an answer that did not come in time: asked again until it does
        return False
    finally:
        consumer.close()
