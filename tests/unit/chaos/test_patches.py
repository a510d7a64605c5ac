"""What a patch puts in the product's place takes what the product gives it there: else no control shows anything."""

import inspect
from pkgutil import resolve_name

import pytest

from tests.chaos.patches import APPLY

REPLACED = {
    "trust_the_log": [
        "stream_jobs.request_log:KafkaRequestLog.is_known",
        "stream_jobs.request_log:KafkaRequestLog.end",
    ],
    "no_ticks": ["stream_jobs.score_specs:ticker"],
    "die_between_state_and_commit": ["stream_jobs.barrier:Barrier._commit"],
    "die_between_answer_and_telemetry": ["inference_workers.answers.records:Answers.telemetry"],
    "stand_still_before_manifest": ["stream_jobs.state_log:PartitionState._settle"],
    "die_after_commit": ["stream_jobs.barrier:Barrier._commit"],
    "hang_for_good": ["inference_workers.worker_cli:_delay"],
    "slow": ["inference_workers.worker_cli:_delay"],
    "no_offset_in_state": ["stream_jobs.owned_partitions:restored"],
    "commit_first": ["stream_jobs.barrier:Barrier.run"],
    "no_owner": [
        "stream_jobs.state_records:StateKey.encode",
        "stream_jobs.state_log:PartitionState._check_alone",
        "stream_jobs.score_job:ScoreJob.stood_still",
    ],
    "no_identity": ["inference_workers.answers.newcomers:Place", "inference_workers.telemetry.accumulator:served"],
    "no_tokens": ["infra.clickhouse.client:ClickHouse.insert"],
    "no_dead_letters": ["infra.dead_letters:DeadLetters.send"],
    "store_at_once": ["infra.progress:Progress.begin"],
    "step_clock": ["infra.clock:SystemClock.now_ms"],
}


def test_each_patch_that_replaces_a_function_is_looked_at():
    assert set(REPLACED) == set(APPLY) - {"replay_topics"}  # which renames topics


@pytest.mark.parametrize("name", REPLACED)
def test_what_is_put_in_a_functions_place_takes_its_arguments(monkeypatch, tmp_path, name):
    monkeypatch.setenv("CHAOS_MARKS", str(tmp_path))
    monkeypatch.setenv("CHAOS_CLOCK_MS", "1000")
    originals = {}
    for where in REPLACED[name]:
        module, _, path = where.partition(":")
        owner_path, _, attribute = path.rpartition(".")
        owner = resolve_name(f"{module}:{owner_path}") if owner_path else resolve_name(module)
        originals[where] = getattr(owner, attribute)
        monkeypatch.setattr(owner, attribute, originals[where])  # put back after the test
    APPLY[name]()
    for where, original in originals.items():
        replaced = resolve_name(where)
        assert replaced is not original, where
        parameters = inspect.signature(original).parameters.values()
        named = {one.name: None for one in parameters if one.kind is one.KEYWORD_ONLY}
        given = [one.name for one in parameters if one.name not in named]
        inspect.signature(replaced).bind(*given, **named)
