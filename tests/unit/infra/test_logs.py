"""Log lines: what they say, in which form, and what they never say."""

import io
import json
import logging
import sys

import pytest

from infra.fingerprints import fingerprint
from infra.logs import CHARACTERS_MAX, JsonLines, TextLines, setup_logging, traced
from infra.redaction import hide_secrets, keep_secret
from infra.settings import KafkaSettings, SettingsError, load

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def record(message, *arguments, level=logging.WARNING, error=None):
    exc_info = None if error is None else (type(error), error, error.__traceback__)
    made = logging.LogRecord("infra.outbox", level, __file__, 1, message, arguments, exc_info)
    made.created = 1_700_000_000.25
    return made


def raised():
    try:
        raise ValueError("no \ud800 good")
    except ValueError as error:
        return error


def test_a_json_line_says_who_when_what():
    assert json.loads(JsonLines("worker", "w-1").format(record("%d failed\nagain", 3))) == {
        "time": "2023-11-14T22:13:20.250+00:00",
        "level": "warning",
        "process": "worker",
        "worker_id": "w-1",
        "logger": "infra.outbox",
        "message": "3 failed\nagain",
    }


def test_an_exception_comes_with_its_stack_and_fingerprint():
    error = raised()
    line = json.loads(JsonLines("worker").format(record("it failed", error=error)))
    assert line["stack"].startswith("Traceback")
    assert line["fingerprint"] == fingerprint(error)
    assert "worker_id" not in line


def test_lines_carry_the_trace_that_is_worked_on():
    with traced(TRACEPARENT):
        inside = JsonLines("worker").format(record("a"))
        with traced(None):
            assert "trace_id" not in json.loads(JsonLines("worker").format(record("a")))
    assert json.loads(inside)["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert "trace_id" not in json.loads(JsonLines("worker").format(record("a")))


def test_text_for_people_is_one_line_that_nobody_can_forge():
    with traced(TRACEPARENT):
        text = TextLines().format(record("a\n22:13:20 INFO b\x1b[2J"))
    assert text == (
        "22:13:20.250 WARNING  infra.outbox: a\\n22:13:20 INFO b\\x1b[2J [trace 0af7651916cd43dd8448eb211c80319c]"
    )
    assert TextLines().format(record("a", error=raised())).count("\n") > 1


def test_what_is_too_long_is_cut():
    line = json.loads(JsonLines("worker").format(record("x" * 1_000_000)))
    assert len(line["message"]) == CHARACTERS_MAX


def test_levels_of_libraries_become_known_ones():
    assert json.loads(JsonLines("w").format(record("a", level=25)))["level"] == "info"
    assert json.loads(JsonLines("w").format(record("a", level=5)))["level"] == "debug"


@pytest.mark.parametrize(
    ("chosen", "terminal", "is_json"),
    [("auto", True, False), ("auto", False, True), ("text", False, False), ("json", True, True)],
)
def test_people_get_text_and_programs_json(monkeypatch, chosen, terminal, is_json):
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("INFERWATCH_LOG_FORMAT", chosen)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        setup_logging("worker", worker_id="w-1")
        logging.getLogger("x").info("hello")
        logging.getLogger("x").debug("quiet")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert text.startswith("{") == is_json


def test_a_format_that_is_not_known_is_refused(monkeypatch):
    monkeypatch.setenv("INFERWATCH_LOG_FORMAT", "xml")
    with pytest.raises(SettingsError, match="INFERWATCH_LOG_FORMAT='xml'"):
        setup_logging("worker")


def test_secrets_that_settings_read_are_never_logged():
    load(
        KafkaSettings,
        security_protocol="SASL_SSL",
        sasl_username="u",
        sasl_password="Correct-Horse-42",
    )
    line = JsonLines("worker").format(record("cannot log in as u with %s", "xCorrect-Horse-42y"))
    assert "Horse" not in line
    assert "x(secret)y" in line


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("sasl.password=hunter2 next", "sasl.password=(secret) next"),
        ('{"api_key": "abc-def", "a": 1}', '{"api_key": "(secret)", "a": 1}'),
        ("Authorization: Bearer abcdefghijkl.mno", "Authorization: Bearer (secret)"),
        ("https://user:pa55@host:8123/x", "https://user:(secret)@host:8123/x"),
        ("INFERWATCH_KAFKA_SASL_PASSWORD=(secret)", "INFERWATCH_KAFKA_SASL_PASSWORD=(secret)"),
        ("16384 tokens ran out: tokens=12", "16384 tokens ran out: tokens=12"),
        ("a password is needed; time: 12:30", "a password is needed; time: 12:30"),
    ],
)
def test_what_looks_like_a_secret_is_hidden_and_nothing_else(text, hidden):
    assert hide_secrets(text) == hidden
    assert hide_secrets(hidden) == hidden


def test_a_short_secret_spoils_no_words():
    keep_secret("kafka")
    assert hide_secrets("kafka is away") == "kafka is away"


def test_hiding_takes_no_time_on_hostile_text():
    assert len(hide_secrets("a.-" * 10_000)) == 30_000
