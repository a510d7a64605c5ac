from dataclasses import replace

import pytest

from benchmarks.drain import Drained, cpu_us_per_request
from benchmarks.embedding_job import EmbeddingResult
from benchmarks.hot_swap_part import SWAPS, HotSwap, steps_of
from benchmarks.latency_part import Latency, median_compute_ms
from benchmarks.memory_part import MemoryUse
from benchmarks.telemetry_cost import TelemetryCost
from benchmarks.thread_times import BusiestThread, busiest_thread, thread_times
from benchmarks.throughput_part import Rounds
from benchmarks.worker_figures import (
    best_peer,
    hot_swap_figures,
    latency_figures,
    lines_for_people,
    memory_figures,
    telemetry_figures,
    throughput_figures,
)
from benchmarks.worker_parts import requests_for, with_what_they_need
from benchmarks.worker_process import ServedModel, Usage, worker_environment
from infra.ports import Record
from infra.settings import KafkaSettings
from schemas.telemetry import InferenceServed
from tests.unit.benchmarks.test_load_policy import GOOD


def drained(rate):
    return Drained(1_000, rate, 1_100.0, BusiestThread(rate, 1.0, 2.0), 0, 0, 0, 0.1)


def embedded(rate, version=""):
    return EmbeddingResult(rate, 900.0, 64, [[1.0, 0.0]], version, {})


ROUNDS = Rounds(
    worker=[drained(90.0), drained(47.5), drained(94.0)],
    bare=[embedded(100.0), embedded(50.0), embedded(100.0)],
    peers={"a": [embedded(40.0, "1"), embedded(20.0, "1"), embedded(40.0, "1")], "b": [embedded(30.0, "2")] * 3},
    absent={"c": "c cannot be installed: no network"},
)


def test_ratios_are_medians_of_ratios_within_rounds():
    found = throughput_figures(ROUNDS)
    assert found["kafka_to_kafka_per_second"] == 90.0
    assert found["bare_engine_per_second"] == 100.0
    assert found["ratio_to_bare"] == 0.94
    assert found["best_peer"] == "a"
    assert found["ratio_to_best_peer"] == pytest.approx(2.35)
    assert found["worker_busiest_thread"] == {"computed_us": 90.0, "waited_for_core_us": 1.0, "blocked_us": 2.0}
    assert found["spread"]["ratio_to_bare"]["values"] == [0.9, 0.95, 0.94]
    assert (found["lost"], found["answered_twice"], found["not_answered"]) == (0, 0, 0)


def test_each_peer_has_its_own_number_and_an_absent_one_its_reason():
    peers = throughput_figures(ROUNDS)["peers"]
    assert (peers["a"]["per_second"], peers["a"]["least_cosine_to_ours"]) == (40.0, 1.0)
    assert peers["c"] == {"per_second": None, "why": "c cannot be installed: no network"}


def test_without_peers_the_ratio_is_null():
    found = throughput_figures(Rounds(worker=[drained(9.0)], bare=[embedded(10.0)]))
    assert found["ratio_to_best_peer"] is None
    assert best_peer({}) is None


def test_the_latency_promise():
    kept, broken = (Latency(100.0, GOOD, 12.0, 5, bound_ms) for bound_ms in (41.0, 35.0))
    lost = Latency(100.0, replace(GOOD, unanswered=1), 12.0, 5, 41.0)
    for rounds, within in (
        ([kept], True),
        ([broken], False),
        ([broken, kept, kept], True),
        ([kept, kept, lost], False),
    ):
        found = latency_figures(rounds)["latency_at_half_load"]
        assert found["p99_within_bound"] is within
        assert found["bound_ms"] == (35.0 if rounds == [broken] else 41.0)
    assert found["p99_over_bound"]["values"] == pytest.approx([GOOD.p99_ms / 41.0] * 3, rel=1e-4)


def test_a_batch_told_on_several_partitions_counts_once():
    kind = (("ce_type", InferenceServed.event_type().encode()),)
    two = b'{"batches": {"compute_ms": [5.0, 9.0], "size": [3, 4], "tokens": [10, 20]}}'
    one = b'{"batches": {"compute_ms": [9.0, 30.0], "size": [4, 8], "tokens": [20, 40]}}'
    late = b'{"batches": {"compute_ms": [500.0], "size": [1], "tokens": [2]}}'
    events = [
        Record("t", partition, 0, when, None, value, headers)
        for partition, when, value, headers in [
            (0, 5, two, kind),
            (1, 6, one, kind),
            (2, 99, late, kind),
            (3, 7, late, ()),
        ]
    ]
    assert median_compute_ms(events, (5, 10)) == 9.0


def test_people_read_every_figure_and_what_was_not_measured():
    figures = (
        throughput_figures(ROUNDS)
        | telemetry_figures([TelemetryCost(us, 1_000.0, us / 1_000.0, 123.4) for us in (9.0, 4.321, 3.0)])
        | memory_figures(MemoryUse(10, None, 5))
        | hot_swap_figures(HotSwap(GOOD, GOOD, 0, 0, {"1": 5, "swap-1": 7}))
    )
    text = lines_for_people(figures)
    assert "telemetry_overhead" in text
    assert "0.0043" in text
    assert "telemetry_bytes_per_request" in text
    assert "123.4" in text
    assert "peers.a.per_second" in text
    assert any(line.startswith("rss_growth_bytes") and line.endswith("not measured") for line in text.splitlines())
    assert "hot_swap.answers_by_version.swap-1" in text
    assert "[" not in text


def test_a_swap_is_judged_by_what_it_adds():
    slower = replace(GOOD, max_ms=GOOD.max_ms + 25.0)
    found = hot_swap_figures(HotSwap(GOOD, slower, 1, 2, {"1": 3}))["hot_swap"]
    assert (found["lost"], found["answered_twice"], found["worst_added_ms"]) == (1, 2, 25.0)


def test_the_deployments_of_a_swap_are_deployments():
    steps = steps_of(ServedModel("/m", "m"), "bench-1")
    assert len(steps) == SWAPS
    assert [None if one is None else [arm.version for arm in one.arms] for one in steps] == [
        ["swap-1"],
        ["swap-1", "swap-2"],
        ["swap-2"],
        None,
    ]


def test_processor_time_a_request_needs_two_looks():
    looks = [(100, Usage(0.0, 1.0, 1, {})), (300, Usage(1.0, 1.5, 1, {}))]
    assert cpu_us_per_request(looks) == pytest.approx(2_500.0)
    assert cpu_us_per_request(looks[:1]) is None
    assert cpu_us_per_request([looks[0], looks[0]]) is None


def test_the_busiest_thread_computes_waits_or_is_blocked(tmp_path):
    task = tmp_path / "7" / "task" / "8"
    task.mkdir(parents=True)
    (task / "schedstat").write_text("2000000000 500000000 91\n")
    (tmp_path / "7" / "task" / "9").mkdir()
    assert thread_times(7, tmp_path) == {"8": (2.0, 0.5)}
    first, last = {"8": (2.0, 0.5), "9": (0.0, 0.0)}, {"8": (2.6, 0.7), "9": (0.1, 0.9), "10": (9.0, 9.0)}
    found = busiest_thread(first, last, 1.0, 1_000)
    assert (found.computed_us, found.waited_for_core_us, found.blocked_us) == pytest.approx((600.0, 200.0, 200.0))
    assert busiest_thread({}, last, 1.0, 1_000) is None


def test_a_part_brings_what_it_builds_on():
    assert with_what_they_need(frozenset({"swap"})) == {"swap", "throughput"}
    assert with_what_they_need(frozenset({"memory"})) == {"memory"}
    assert (requests_for(10.0), requests_for(1_000.0), requests_for(1e6)) == (2_000, 15_000, 300_000)


def test_the_worker_gets_this_kafka_and_this_model_and_keeps_other_settings():
    given = {
        "PATH": "/bin",
        "INFERWATCH_KAFKA_SASL_USERNAME": "somebody",
        "INFERWATCH_WORKER_BATCH_TOKENS_MAX": "16384",
        "INFERWATCH_WORKER_MODEL": "another",
    }
    kafka = KafkaSettings.model_construct(bootstrap_servers="127.0.0.1:1", session_timeout_ms=6_000)
    found = worker_environment(given, kafka, ServedModel("folder", "name", "float32", 2))
    assert found["PATH"] == "/bin"
    assert found["INFERWATCH_WORKER_BATCH_TOKENS_MAX"] == "16384"
    assert found["INFERWATCH_WORKER_MODEL"] == "folder"
    assert found["INFERWATCH_WORKER_TORCH_THREADS"] == "2"
    assert found["INFERWATCH_KAFKA_BOOTSTRAP_SERVERS"] == "127.0.0.1:1"
    assert "INFERWATCH_KAFKA_SASL_USERNAME" not in found
