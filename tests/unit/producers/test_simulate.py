"""The simulator's shell and data: on time, ends when told, survives an absent broker, samples with their licence."""

import itertools
import json
from importlib.resources import files

import pytest
from click.testing import CliRunner

from infra.ports import RetryLater
from producers.broken_requests import EXPECTED, BrokenKind
from producers.client import Producer, RequestTopic
from producers.pacing import SLIP_SECONDS, Pace
from producers.sample_data import Arrival, DataChoice, Replay, full_replay, replay_of, sample_replay
from producers.simulate_cli import Summary, Traffic, show, simulate
from producers.simulator import TrafficPolicy, due_times, plan
from schemas.base import DecodeError, decode
from schemas.requests import InferenceRequested
from schemas.topics import REQUESTS
from tests.fakes import FakeBroker, FakeClock, FakePublisher

REPLAY = Replay(("red shoes", "sofa"), tuple(Arrival(100 * n, 1_000, 1) for n in range(50)))


def run(policy, *, seconds=None, stop_after=None, publisher=None, late=()):
    clock = FakeClock()
    publisher = publisher or FakePublisher(FakeBroker(clock))
    producer = Producer(
        publisher=publisher, topic=RequestTopic("c", "t", 2), clock=clock, block_seconds=0, pending_max=100_000
    )
    summary, waits = Summary(policy.seed), itertools.count()
    pauses = dict(late)

    def wait(pause):
        number = next(waits)
        clock.advance(pause + pauses.get(number, 0.0))
        return stop_after is not None and number >= stop_after

    Traffic(producer, publisher, clock, summary).run(plan(REPLAY, policy), seconds=seconds, wait=wait)
    return summary, publisher.broker.of(REQUESTS.name)


def test_it_sends_at_the_rate_for_the_time_and_the_books_balance():
    summary, records = run(TrafficPolicy(7, rate=100, broken_share=0.2), seconds=10)
    facts = summary.as_json()
    assert facts["sent"] == facts["delivered"] == len(records) == pytest.approx(1_000, abs=5)
    assert facts["seconds"] == pytest.approx(10, abs=0.1)
    assert facts["requests_per_second"] == pytest.approx(100, abs=1)
    good = [r for r in records if not fails(r)]
    assert len(good) == facts["sent_good"]
    assert sum(facts["sent_broken"].values()) == len(records) - len(good) > 100
    assert set(facts["sent_broken"]) == {kind.value for kind in BrokenKind}
    assert facts["pending"] == facts["failed"] == facts["not_accepted"] == 0
    assert "seed 7" in show(summary)


def fails(record):
    try:
        decode(record.headers, record.value, (InferenceRequested,), plain=InferenceRequested)
    except DecodeError as error:
        return error.reason in EXPECTED.values()
    return False


def test_the_trace_is_looped_until_told_to_end():
    summary, records = run(TrafficPolicy(1, rate=50, broken_share=0), stop_after=400)
    assert len(records) == summary.sent_good > 3 * len(REPLAY.arrivals)


def test_a_long_pause_is_not_made_up_in_a_burst():
    summary, _ = run(TrafficPolicy(1, rate=100, broken_share=0), seconds=20, late={50: 10.0})
    assert summary.slipped_seconds == pytest.approx(10, abs=0.5)
    assert summary.sent_good == pytest.approx(1_000, abs=120)


def test_a_broker_that_is_away_is_waited_for():
    class Away(FakePublisher):
        def publish(self, *arguments, **options):
            raise RetryLater("away")

    summary, records = run(TrafficPolicy(1, rate=10, broken_share=0.5), seconds=5, publisher=Away(FakeBroker()))
    assert records == []
    assert summary.not_accepted >= 5
    assert summary.as_json()["sent"] == 0


def test_failed_deliveries_are_counted():
    publisher = FakePublisher(FakeBroker(FakeClock()))
    publisher.fail = [RetryLater("away"), None] * 5
    summary, _ = run(TrafficPolicy(1, rate=10, broken_share=0.5), seconds=3, publisher=publisher)
    assert summary.failed == 5
    assert summary.as_json()["pending"] == 0


def test_pace_catches_up_a_little_and_gives_up_more():
    pace = Pace(100.0)
    assert pace.wait_seconds(1.0, 100.0) == 1.0
    assert pace.wait_seconds(1.0, 101.0 + SLIP_SECONDS / 2) == 0.0
    assert pace.slipped_seconds == 0.0
    assert pace.wait_seconds(2.0, 112.0) == 0.0
    assert pace.slipped_seconds == pytest.approx(10.0)
    assert pace.wait_seconds(3.0, 112.0) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "values", [{"rate": 0}, {"speed": 0}, {"smooth": 1.5}, {"broken_share": -0.1}, {"users": 0}, {"rate": float("nan")}]
)
def test_traffic_that_cannot_be_is_refused(values):
    with pytest.raises(ValueError, match=r".+"):
        TrafficPolicy(1, **values)


@pytest.mark.parametrize("offsets", [(), (5,), (5, 5)])
def test_a_trace_without_time_is_refused(offsets):
    with pytest.raises(ValueError, match="two arrivals"):
        next(due_times([Arrival(o, 1, 1) for o in offsets], TrafficPolicy(1)))


def test_samples_are_small_real_and_carry_their_licence():
    replay = sample_replay()
    assert len(replay.queries) == 480
    assert "salon chair" in replay.queries
    assert len(replay.arrivals) == 5_000
    assert all(a.offset_ms <= b.offset_ms for a, b in itertools.pairwise(replay.arrivals))
    folder = files("producers").joinpath("samples")
    readme = folder.joinpath("README.md").read_text(encoding="utf-8")
    for name in ("wands_queries.csv", "azure_llm_arrivals.csv"):
        assert name in readme
        assert len(folder.joinpath(name).read_bytes()) < 100_000
    for words in ("MIT License", "Copyright (c) 2021 ecir2022", "CC-BY 4.0", "Splitwise"):
        assert words in readme


def test_bursts_of_the_sample_are_as_documented():
    due = [s for s, _ in itertools.islice(due_times(sample_replay().arrivals, TrafficPolicy(1, rate=250)), 20_000)]
    per_second = [sum(1 for s in due if n <= s < n + 1) for n in range(10)]
    assert max(per_second) < 1.3 * 250


def test_the_full_data_are_the_whole_trace(data, monkeypatch):
    monkeypatch.setenv("INFERWATCH_DATA", str(data))
    replay = full_replay()
    assert len(replay.arrivals) == 19_366
    assert replay.arrivals[:5_000] == sample_replay().arrivals
    assert set(sample_replay().queries) <= set(replay.queries)


@pytest.fixture
def stack(monkeypatch):
    broker = FakeBroker()
    monkeypatch.setenv("INFERWATCH_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setattr("infra.kafka.KafkaPublisher", lambda settings, **options: FakePublisher(broker))
    monkeypatch.setattr("producers.client.request_topic", lambda settings: RequestTopic("c", "t", 2))
    monkeypatch.setattr("infra.logs.setup_logging", lambda *arguments: None)
    return broker


def test_the_command_prints_seed_and_summary(stack):
    result = CliRunner().invoke(
        simulate, ["--rate", "500", "--for", "300ms", "--seed", "9", "--broken-share", "0.1", "--json"]
    )
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["seed"] == 9
    assert "seed 9" in result.stderr
    assert facts["sent"] == facts["delivered"] == len(stack.of(REQUESTS.name)) > 50


@pytest.mark.parametrize(
    "arguments",
    [["--rate", "0"], ["--rate", "5", "--speed", "2"], ["--broken-share", "2"], ["--for", "soon"], ["--data", "other"]],
)
def test_impossible_options_are_usage_errors(stack, arguments):
    assert CliRunner().invoke(simulate, arguments).exit_code == 2


def test_the_full_data_are_taken_where_they_are_there_and_that_is_chosen(data, monkeypatch, tmp_path):
    monkeypatch.setenv("INFERWATCH_DATA", str(tmp_path))
    assert replay_of(DataChoice.AUTO) == (sample_replay(), DataChoice.SAMPLE)
    monkeypatch.setenv("INFERWATCH_DATA", str(data))
    assert replay_of(DataChoice.AUTO) == (full_replay(), DataChoice.FULL)
    assert replay_of(DataChoice.SAMPLE) == (sample_replay(), DataChoice.SAMPLE)


def test_full_data_that_are_absent_are_named(stack, monkeypatch, tmp_path):
    monkeypatch.setenv("INFERWATCH_DATA", str(tmp_path))
    result = CliRunner().invoke(simulate, ["--data", "full", "--for", "1s"])
    assert "INFERWATCH_DATA" in str(result.exception)
