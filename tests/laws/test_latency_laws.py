"""What batching itself adds to latency: on a device that does nothing else, the promise of half load holds."""

import numpy as np
import pytest

from benchmarks.figures import quantile
from benchmarks.latency_part import COMPUTE_FACTOR, LOAD_SHARE
from inference_workers.batching.planner import BatchLimit, Waiting, plan_batch, seconds_until_due
from inference_workers.spec import WorkerSettings

SETTINGS = WorkerSettings(model="m")
LIMIT = BatchLimit(SETTINGS.batch_tokens_max, SETTINGS.batch_requests_max, SETTINGS.wait_ms_max)
REQUESTS = 20_000


def lengths_of(count, rng):
    """Tokens of shopping queries: mostly 4 to 8, now and then many."""
    return np.clip(rng.gamma(4.0, 1.5, count).astype(int) + 2, 3, 60).tolist()


def batch_ms(lengths, fixed_ms, token_ms):
    return fixed_ms + token_ms * sum(lengths)


def served(arrivals_ms, lengths, fixed_ms, token_ms):
    """The real planner before a device that takes so long: each request's latency, and each batch's computation."""
    latencies, computed, waiting, came = [], [], [], 0
    now = 0.0
    while len(latencies) < len(arrivals_ms):
        while came < len(arrivals_ms) and arrivals_ms[came] <= now:
            since_ms = int(arrivals_ms[came])
            waiting.append((arrivals_ms[came], Waiting((lengths[came],), since_ms, urgency_ms=since_ms)))
            came += 1
        queue = [one for _, one in waiting]
        plan = plan_batch(queue, LIMIT, int(now), only_full=False)
        if plan is None:
            due = now + 1000 * seconds_until_due(queue, LIMIT, int(now)) if queue else float("inf")
            now = min(due, arrivals_ms[came] if came < len(arrivals_ms) else float("inf"))
            continue
        members = [waiting[number] for number in plan.members]
        computed.append(batch_ms([one.longest for _, one in members], fixed_ms, token_ms))
        now += computed[-1]
        latencies += [now - arrived for arrived, _ in members]
        waiting = [one for number, one in enumerate(waiting) if number not in set(plan.members)]
    return latencies, computed


def capacity_per_ms(lengths, fixed_ms, token_ms):
    """Requests a millisecond in full batches of like length."""
    ordered = sorted(lengths)
    batches = [ordered[i : i + LIMIT.requests_max] for i in range(0, len(ordered), LIMIT.requests_max)]
    return len(ordered) / sum(batch_ms(batch, fixed_ms, token_ms) for batch in batches)


@pytest.mark.parametrize(
    ("fixed_ms", "token_ms"),
    [(3.3, 0.125), (1.0, 0.02), (5.0, 0.02), (20.0, 0.13)],
    ids=["as all-MiniLM-L6-v2 on one core", "quick", "as a GPU", "slow to start"],
)
def test_p99_at_half_load_is_within_three_batches_and_the_waiting_limit(fixed_ms, token_ms):
    for seed in range(3):
        rng = np.random.default_rng([seed, 1])
        lengths = lengths_of(REQUESTS, rng)
        rate = LOAD_SHARE * capacity_per_ms(lengths, fixed_ms, token_ms)
        arrivals_ms = np.cumsum(rng.exponential(1 / rate, REQUESTS)).tolist()
        latencies, computed = served(arrivals_ms, lengths, fixed_ms, token_ms)
        bound = COMPUTE_FACTOR * float(np.median(computed)) + LIMIT.wait_ms_max
        assert quantile(latencies, 0.99) <= bound, (seed, quantile(latencies, 0.99), bound)
