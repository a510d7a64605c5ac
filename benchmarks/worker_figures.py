"""The figures of `inferwatch bench worker` as one JSON object, and as lines for people. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.embedding_job import EmbeddingResult, least_cosine
from benchmarks.figures import Spread, paired_ratio, spread
from benchmarks.hot_swap_part import HotSwap
from benchmarks.latency_part import Latency
from benchmarks.memory_part import MemoryUse
from benchmarks.telemetry_cost import TelemetryCost
from benchmarks.throughput_part import Rounds

Figures = dict[str, Any]
SUMS_TO_ONE_DIGITS = 4


def throughput_figures(rounds: Rounds) -> Figures:
    """Worker, bare loop and peers: medians, spread, and ratios of the same round."""
    worker = [one.per_second for one in rounds.worker]
    bare = [one.per_second for one in rounds.bare]
    ratio = paired_ratio(worker, bare)
    best = best_peer(rounds.peers)
    against = None if best is None else paired_ratio(worker, [one.per_second for one in rounds.peers[best]])
    return {
        "kafka_to_kafka_per_second": _median(spread(worker)),
        "bare_engine_per_second": _median(spread(bare)),
        "ratio_to_bare": _median(ratio),
        "ratio_to_best_peer": None if against is None else _median(against),
        "best_peer": best,
        "lost": sum(one.lost for one in rounds.worker),
        "answered_twice": sum(one.twice for one in rounds.worker),
        "not_answered": sum(one.not_answered for one in rounds.worker),
        "spread": {
            "kafka_to_kafka_per_second": spread(worker).as_json(),
            "bare_engine_per_second": spread(bare).as_json(),
            "ratio_to_bare": ratio.as_json(),
            "ratio_to_best_peer": None if against is None else against.as_json(),
        },
        "cpu_us_per_request": {
            "worker": _known([one.cpu_us_per_request for one in rounds.worker]),
            "bare": _known([one.cpu_us_per_request for one in rounds.bare]),
        },
        "worker_busiest_thread": _busiest(rounds),
        "bare_batch": rounds.bare[-1].batch,
        "foreign_load": _known([one.foreign_load for one in rounds.worker]),
        "peers": {
            **{name: _peer(found, rounds.bare) for name, found in rounds.peers.items()},
            **{name: {"per_second": None, "why": why} for name, why in rounds.absent.items()},
        },
    }


def best_peer(peers: Mapping[str, Sequence[EmbeddingResult]]) -> str | None:
    """The peer with the highest median; None without any."""
    medians = {name: spread([one.per_second for one in found]).median for name, found in peers.items()}
    return max(medians, key=lambda name: medians[name], default=None)


def telemetry_figures(costs: Sequence[TelemetryCost]) -> Figures:
    """The share, and the microseconds that it is made of, of the run that came to the median share; and all shares."""
    cost = sorted(costs, key=lambda one: one.overhead)[len(costs) // 2]
    return {
        "telemetry_overhead": round(cost.overhead, SUMS_TO_ONE_DIGITS),
        "telemetry_overheads": [round(one.overhead, SUMS_TO_ONE_DIGITS) for one in costs],
        "telemetry_us_per_request": round(cost.telemetry_us, 2),
        "telemetry_bytes_per_request": round(cost.bytes_per_request, 1),
        "telemetry_us_by_call": {name: round(spent, 2) for name, spent in cost.by_call_us.items()},
        "accounted_worker_us_per_request": round(cost.worker_us, 1),
    }


def latency_figures(rounds: Sequence[Latency]) -> Figures:
    """p50, p95, p99 of append to append and the promise that they are held against, of the round that came to the
    median share of the bound; and that share in all rounds."""
    shares = [one.share_of_bound for one in rounds]
    found = sorted(rounds, key=lambda one: one.share_of_bound)[len(rounds) // 2]
    unanswered = sum(one.measure.unanswered for one in rounds)
    return {
        "latency_at_half_load": {
            **asdict(found.measure),
            "offered_per_second": round(found.offered_per_second, 1),
            "sent_per_second": round(found.measure.sent_per_second, 1),
            "throughput_per_second": round(found.measure.throughput_per_second, 1),
            "median_batch_compute_ms": found.median_batch_compute_ms,
            "wait_limit_ms": found.wait_limit_ms,
            "bound_ms": round(found.bound_ms, 3),
            "p99_over_bound": spread(shares).as_json(),
            "p99_within_bound": spread(shares).median <= 1.0 and not unanswered,
        }
    }


def memory_figures(found: MemoryUse) -> Figures:
    """How much resident memory grew."""
    return {
        "rss_growth_bytes": found.growth_bytes,
        "rss_most_bytes": found.most_bytes,
        "memory_requests": found.requests,
    }


def hot_swap_figures(found: HotSwap) -> Figures:
    """Models swapped under load, beside the same load without."""
    return {
        "hot_swap": {
            "lost": found.lost,
            "answered_twice": found.twice,
            "worst_added_ms": round(found.worst_added_ms, 3),
            "calm_p99_ms": found.calm.p99_ms,
            "calm_max_ms": found.calm.max_ms,
            "swapped_p99_ms": found.swapped.p99_ms,
            "swapped_max_ms": found.swapped.max_ms,
            "sent_per_second": round(found.swapped.sent_per_second, 1),
            "answers_by_version": found.versions,
        }
    }


def lines_for_people(figures: Mapping[str, Any]) -> str:
    """Every figure on a line of its own, nested ones with a dotted name; lists of values are left to --json."""
    return "\n".join(f"{name:44s} {value}" for name, value in _flat(figures))


def _flat(figures: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    for name, value in figures.items():
        if isinstance(value, Mapping):
            lines += _flat(value, f"{prefix}{name}.")
        elif name != "values":
            shown = " ".join(map(str, value)) if isinstance(value, list | tuple) else "not measured"
            lines.append((prefix + name, shown if value is None or isinstance(value, list | tuple) else str(value)))
    return lines


def _peer(found: Sequence[EmbeddingResult], bare: Sequence[EmbeddingResult]) -> Figures:
    return {
        **spread([one.per_second for one in found]).as_json(),
        "per_second": _median(spread([one.per_second for one in found])),
        "cpu_us_per_request": _known([one.cpu_us_per_request for one in found]),
        "batch": found[-1].batch,
        "version": found[-1].version,
        "least_cosine_to_ours": round(least_cosine(bare[-1].probe, found[-1].probe), 5),
    }


def _busiest(rounds: Rounds) -> Figures | None:
    """Where the thread that runs the model spent its time, in the round that gave the median."""
    known = sorted((one for one in rounds.worker if one.busiest is not None), key=lambda one: one.per_second)
    if not known:
        return None
    busiest = known[len(known) // 2].busiest
    assert busiest is not None
    return {name: round(value, 1) for name, value in asdict(busiest).items()}


def _known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _median(spread(known)) if known else None


def _median(found: Spread) -> float:
    return float(f"{found.median:.5g}")
