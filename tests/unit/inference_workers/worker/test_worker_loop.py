"""The worker's loop on an in-memory broker: every offset gets one outcome, and is committed only after it."""

import json
import logging

import pytest

from inference_workers.ports import DeviceLost
from infra.logs import line_of
from infra.ports import Fatal, RetryLater
from schemas.base import KEY_BYTES_MAX, UNREADABLE_HEADERS, VALUE_BYTES_MAX, Reason
from schemas.dead_letters import DeadLetter
from schemas.predictions import InferenceAnswered, InferenceFailed, RequestShed
from schemas.telemetry import DIRECTIONS
from schemas.topics import PREDICTIONS, REQUESTS, TELEMETRY, dead_letters_of
from schemas.vectors import decode_vector
from tests.unit.inference_workers.stand_ins import FakeEngine, World, look_while_held

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
RED, SHOES, BOOTS = 2417, 6007, 6879  # token ids of the model's vocabulary
CLOUD_EVENT = (
    ("ce_specversion", b"1.0"),
    ("ce_id", b"mine-1"),
    ("ce_source", b"/shop"),
    ("ce_type", b"inferwatch.inference.requested.v1"),
    ("traceparent", TRACE.encode()),
)


def test_a_request_is_answered_told_and_committed():
    world = World()
    world.ask('{"input": ["red shoes", "boots"], "scenario": "ads"}', partition=1, headers=CLOUD_EVENT)
    world.run()
    [(record, answer)] = world.predictions()
    assert isinstance(answer, InferenceAnswered)
    assert (record.partition, record.key, dict(record.headers)["ce_id"]) == (1, b"k", b"cluster/topic-1/1/0")
    child = dict(record.headers)["traceparent"].decode()
    assert (child[:35], child[-3:]) == (TRACE[:35], TRACE[-3:])  # a span of its own in the same trace
    assert child != TRACE
    assert (answer.request_id, answer.scenario, answer.model.digest) == ("mine-1", "ads", "d")
    assert [list(decode_vector(one.vector)) for one in answer.outputs] == [[4, RED], [3, BOOTS]]
    assert world.outcomes() == {(1, 0): ("answered", "")}
    assert world.committed() == {1: 1}


def test_telemetry_says_what_was_done():
    world = World()
    for text in ("red shoes", "boots", "🦄"):
        world.ask(json.dumps({"input": text}))
    world.ask(json.dumps({"input": "red " * 600}))
    world.run()
    [record] = world.broker.of(TELEMETRY.name)
    event = json.loads(record.value)
    rows, batches = event["requests"], event["batches"]
    assert rows["offset"] == [0, 1, 2, 3]
    assert rows["tokens"] == [4, 3, 3, 256]
    assert rows["unknown_share"] == [0, 0, 0.3333, 0]
    assert rows["truncated"] == [False, False, False, True]
    assert rows["input_bytes"] == [9, 5, 4, 2400]
    assert rows["output_norm"] == [2, 2, 2, 2]
    assert rows["script"] == [1, 1, 0, 1]
    assert all(1 <= direction <= DIRECTIONS for direction in rows["direction"])
    assert event["scenarios"] == ["search"]
    assert sorted(batches["size"]) == [1, 3]
    assert sum(batches["tokens"]) == 266
    assert event["models"][0]["name"] == "m"


BAD = [
    (None, (), Reason.NULL_VALUE),
    (b"", (), Reason.EMPTY_VALUE),
    (b"\xff", (), Reason.NOT_UTF8),
    (b"red shoes", (), Reason.NOT_JSON),
    (b'{"input": "\\ud800"}', (), Reason.NOT_JSON),
    (b'["red shoes"]', (), Reason.NOT_AN_OBJECT),
    (b"{}", (), Reason.MISSING_FIELD),
    (b'{"input": 3}', (), Reason.WRONG_TYPE),
    (b'{"input": []}', (), Reason.BAD_VALUE),
    (b'{"input": "a", "scenario": "No Slug"}', (), Reason.BAD_VALUE),
    (b'{"input": "a", "timeout_ms": 0}', (), Reason.BAD_VALUE),
    (b'{"input": "' + b"a" * 1_048_576 + b'"}', (), Reason.TOO_LARGE),
    (b'{"input": "a"}', (("content-type", b"text/plain"),), Reason.WRONG_CONTENT_TYPE),
    (b'{"input": "a"}', CLOUD_EVENT[:-1][:3], Reason.WRONG_HEADERS),
    (b'{"input": "a"}', UNREADABLE_HEADERS, Reason.WRONG_HEADERS),
    (b'{"input": "a"}', (*CLOUD_EVENT[:3], ("ce_type", b"other.v1")), Reason.UNKNOWN_TYPE),
    (b'{"input": "a"}', (*CLOUD_EVENT[:3], ("ce_type", b"inferwatch.inference.requested.v2")), Reason.UNKNOWN_VERSION),
]


def test_each_kind_of_bad_record_is_a_dead_letter_among_good_ones():
    world = World()
    for value, headers, _ in BAD:
        world.ask(value, headers=headers)
        world.ask('{"input": "boots"}')
    world.run()
    letters = world.broker.of(dead_letters_of(REQUESTS).name)
    assert [dict(one.headers)["inferwatch.reason"].decode() for one in letters] == [reason for _, _, reason in BAD]
    for letter, (value, _, _) in zip(letters, BAD, strict=True):
        fits = value is None or len(value) < VALUE_BYTES_MAX
        assert letter.value == value if fits else value.startswith(letter.value)
    assert len(world.predictions()) == len(BAD)
    told = world.outcomes()
    assert [told[0, 2 * i] for i in range(len(BAD))] == [("dead_lettered", reason) for _, _, reason in BAD]
    assert [told[0, 2 * i + 1] for i in range(len(BAD))] == [("answered", "")] * len(BAD)
    assert world.committed() == {0: 2 * len(BAD)}


@pytest.mark.parametrize(
    ("engine", "error"),
    [
        (FakeEngine(broken={BOOTS}), "compute_error"),
        (FakeEngine(nan={BOOTS}), "non_finite_output"),
        (FakeEngine(bug={BOOTS}), "TypeError"),
    ],
)
def test_a_request_that_cannot_be_computed_fails_alone(engine, error):
    world = World(engine)
    for text in ("red", "boots", "shoes", "red shoes"):
        world.ask(json.dumps({"input": text}))
    world.run()
    by_offset = {message.request.offset: message for _, message in world.predictions()}
    assert [type(by_offset[i]) for i in range(4)] == [
        InferenceAnswered,
        InferenceFailed,
        InferenceAnswered,
        InferenceAnswered,
    ]
    assert (by_offset[1].error, len(by_offset[1].fingerprint)) == (error, 16)
    assert world.outcomes()[0, 1] == ("failed", error)
    assert list(decode_vector(by_offset[2].outputs[0].vector)) == [3, SHOES]
    assert world.committed() == {0: 4}


def test_a_failure_is_logged_with_its_trace_and_many_are_counted(monkeypatch):
    lines = []

    class Lines(logging.Handler):
        def emit(self, record):
            lines.append(line_of(record))

    handler = Lines()
    logger = logging.getLogger("inference_workers.answers.outcomes")
    monkeypatch.setattr(logger, "handlers", [handler])
    world = World(FakeEngine(broken={BOOTS}))
    for _ in range(3):
        world.ask(json.dumps({"input": "boots"}), headers=CLOUD_EVENT)
    world.run()
    assert [line.trace_id for line in lines] == [TRACE[3:35]]
    assert "compute_error" in lines[0].message
    world.clock.advance(2.0)
    world.ask(json.dumps({"input": "boots"}))
    world.run()
    assert lines[1].trace_id == ""
    assert "2 more failures were not logged" in lines[1].message


def test_while_a_batch_is_computed_records_are_taken_together():
    world, polls = World(), []

    def watch():
        poll = world.log.poll

        def timed(count_max, timeout_seconds):
            polls.append((world.compute.under_way(), timeout_seconds))
            return poll(count_max, timeout_seconds)

        world.log.poll = timed

    world.compute.held = True
    world.at_poll[59] = watch
    world.ask(json.dumps({"input": "red"}))
    world.run()
    computing = [seconds for under_way, seconds in polls if under_way]
    idle = [seconds for under_way, seconds in polls if not under_way]
    assert computing
    assert set(computing) == {0.0}, "it has waited already, and a record does not end that wait"
    assert max(idle, default=1.0) > 0.0


def test_a_request_past_its_deadline_is_shed():
    world = World()
    world.ask('{"input": "red", "timeout_ms": 50}')
    world.ask('{"input": "boots", "timeout_ms": 5000}')
    world.clock.advance(0.2)
    world.run()
    (_, shed), (_, answered) = sorted(world.predictions(), key=lambda pair: pair[1].request.offset)
    assert isinstance(shed, RequestShed)
    assert (shed.reason, type(answered)) == ("expired", InferenceAnswered)
    assert world.outcomes() == {(0, 0): ("shed", "expired"), (0, 1): ("answered", "")}
    assert world.committed() == {0: 2}


def test_failed_deliveries_are_repeated_and_commit_waits_for_them():
    world = World()
    for i in range(3):
        world.ask(json.dumps({"input": "red"}), partition=i % 2)
    world.publisher.fail = [None, RetryLater("away"), None, RetryLater("away"), RetryLater("away")]
    world.run(200)
    assert sorted(str(message.request) for _, message in world.predictions()) == [
        "cluster/topic-1/0/0",
        "cluster/topic-1/0/1",
        "cluster/topic-1/1/0",
    ]
    assert len(world.outcomes()) == 3
    assert world.committed() == {0: 2, 1: 1}


def test_nothing_is_committed_before_answer_and_telemetry_are_durable():
    world = World()
    world.ask('{"input": "red"}')
    world.publisher.hold = True
    world.at_poll = {30: lambda: world.publisher.release(1)}  # the answer, not its telemetry
    world.run()
    assert len(world.predictions()) == 1
    assert world.committed() == {}


def test_kafka_away_is_waited_for():
    world = World()
    world.ask('{"input": "red"}')
    world.identity_failures = [RetryLater("no answer")] * 3

    def away():
        world.log.fail = [RetryLater("broker away")] * 5

    world.at_poll = {58: away}
    world.run()
    assert world.outcomes() == {(0, 0): ("answered", "")}


def test_revoked_partitions_are_neither_answered_twice_nor_lost():
    world = World(poll_records_max=8)
    for i in range(40):
        world.ask(json.dumps({"input": "red"}), partition=i % 2)

    def hold():
        world.compute.held = True

    def revoke():
        world.compute.held = False
        world.log.revoke({(REQUESTS.name, 1)})

    world.at_poll = {58: hold, 55: revoke}
    world.run()
    after = World(broker=world.broker)
    after.run()  # the next owner
    told = after.outcomes()  # asserts: each offset once
    assert set(told) == {(p, o) for p in (0, 1) for o in range(20)}
    assert len(after.predictions()) == 40
    assert after.committed() == {0: 20, 1: 20}


def test_batches_that_outlive_their_partition_are_not_answered():
    world = World()
    world.ask('{"input": "red"}', partition=1)

    def revoke():
        world.compute.held = True
        world.log.revoke({(REQUESTS.name, 1)})

    def come_back():
        world.compute.held = False

    world.compute.held = True
    world.at_poll = {50: revoke, 40: come_back}
    world.run()
    assert world.predictions() == []
    assert world.outcomes() == {}
    assert world.committed() == {}


def test_an_unforeseen_error_ends_the_loop_with_nothing_unfinished_acknowledged():
    class Lost(FakeEngine):
        def compute(self, items):
            if self.calls >= 1:
                raise DeviceLost("device-side assert")
            return super().compute(items)

    world = World(Lost())
    world.ask('{"input": "red"}')
    world.at_poll = {20: lambda: world.ask('{"input": "boots"}')}
    with pytest.raises(DeviceLost):
        world.run()
    assert world.committed() == {0: 1}
    assert len(world.predictions()) == 1


def test_a_full_queue_pauses_fetching_and_polling_goes_on():
    world = World(queue_requests_max=20, poll_records_max=10)
    for i in range(100):
        world.ask(json.dumps({"input": "red"}), partition=i % 2)
    waiting, paused = look_while_held(world, 200)
    assert waiting <= 30
    assert paused == 2
    assert len(world.outcomes()) == 100
    assert world.committed() == {0: 50, 1: 50}


def test_stopping_finishes_what_was_accepted():
    world = World()
    world.at_poll = {1: lambda: [world.ask('{"input": "red"}') for _ in range(30)]}
    world.run(2)
    assert len(world.outcomes()) == 30
    assert world.committed() == {0: 30}


def test_a_topic_made_again_gets_its_new_id():
    world = World()
    world.ask('{"input": "red"}')
    world.ask('{"input": "red"}')

    def again():
        world.broker.records[REQUESTS.name, 0].clear()
        world.log._position[REQUESTS.name, 0] = 0
        world.topic_id = "topic-2"
        world.ask('{"input": "boots"}')

    world.at_poll = {30: again}
    world.run()
    assert {str(message.request) for _, message in world.predictions()} == {
        "cluster/topic-1/0/0",
        "cluster/topic-1/0/1",
        "cluster/topic-2/0/0",
    }


def test_an_answer_that_fits_no_record_is_a_failure():
    class Wide(FakeEngine):
        def rows(self, items):
            return super().rows(items).repeat(10_000, axis=1)

    world = World(Wide())
    world.ask(json.dumps({"input": ["red"] * 64}))
    world.ask(json.dumps({"input": "red"}))
    world.run()
    assert world.outcomes() == {(0, 0): ("failed", "answer_too_large"), (0, 1): ("answered", "")}
    assert len(world.broker.of(PREDICTIONS.name)) == 2


def test_a_key_that_no_answer_could_carry_is_a_dead_letter():
    world = World()
    world.broker.record_bytes_max = VALUE_BYTES_MAX
    sizes = (KEY_BYTES_MAX, KEY_BYTES_MAX + 1, VALUE_BYTES_MAX - 100, 10 * VALUE_BYTES_MAX)
    for size in sizes:
        world.ask('{"input": "red"}', key=b"k" * size)
        world.ask('{"input": "red", "timeout_ms": 1}', key=b"k" * size)  # shed, when it is taken
    world.clock.advance(0.1)
    world.run()
    assert sorted(len(record.key) for record, _ in world.predictions()) == [KEY_BYTES_MAX, KEY_BYTES_MAX]
    letters = world.broker.of(dead_letters_of(REQUESTS).name)
    found = [DeadLetter.from_record(one.headers, one.key, one.value) for one in letters]
    assert [one.reason for one in found] == [Reason.TOO_LARGE] * 6
    assert [len(one.key) + one.key_cut_bytes for one in found] == [size for size in sizes[1:] for _ in range(2)]
    assert all("a key of" in one.detail for one in found)
    assert world.committed() == {0: 2 * len(sizes)}


def test_a_publisher_broken_for_good_ends_the_loop():
    world = World()
    world.ask('{"input": "red"}')
    world.publisher.fail = [None, Fatal("a newer producer took over")]
    with pytest.raises(Fatal):
        world.run()
    assert world.committed() == {}


@pytest.mark.parametrize("ahead_ms", [2 * 86_400_000, 10**15])
def test_an_append_time_far_in_the_future_is_no_time(ahead_ms):
    world = World()
    now_ms = world.clock.now_ms()
    world.clock._now_ms = now_ms + ahead_ms
    world.ask('{"input": "red"}')
    world.clock._now_ms = now_ms
    world.run()
    [record] = world.broker.of(TELEMETRY.name)
    [appended_ms] = json.loads(record.value)["requests"]["appended_ms"]
    assert now_ms <= appended_ms < now_ms + 60_000


def test_timestamps_that_are_no_time_do_not_stop_it():
    world = World()
    for moment in (-1, 0, 10**18):
        world.clock._now_ms, now = moment, world.clock._now_ms
        world.ask('{"input": "red", "timeout_ms": 60000}')
        world.ask("{")
        world.clock._now_ms = now
    world.run()
    assert [outcome for outcome, _ in world.outcomes().values()].count("answered") == 3
