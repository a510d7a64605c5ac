"""A job that is started while Kafka goes away asks to be tried again: that is no fault of the program."""

import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest
from aiokafka.errors import KafkaConnectionError

from infra.settings import KafkaSettings
from stream_jobs import app

PROGRAM = """
import sys
from types import SimpleNamespace
from infra.ports import TryAgain
from infra.settings import KafkaSettings
from stream_jobs import app

async def start(consumer):
    if "broken" in sys.argv:
        raise ValueError("a fault of the program")

async def finish():
    pass

job = SimpleNamespace(start=start, finish=finish, assigned=print, revoked=print)
kafka = KafkaSettings(bootstrap_servers=sys.argv[1])
try:
    app.run(app.new_app(kafka, group="g", client_id="c", topics=["t"], job=job))
except TryAgain as away:
    print("try again:", away)
except SystemExit as stop:
    print("ended:", stop.code)
"""


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("more", "told"), [((), "try again: Kafka went away while the job was started"), (("broken",), "ended: 1")]
)
def test_what_ends_a_start(more, told):
    with socket.socket() as nobody:  # bound and not listening: connections are refused
        nobody.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{nobody.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, where, *more], capture_output=True, text=True, timeout=50, check=False
        )
    assert told in done.stdout, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("is_up", "reason", "is_fatal"),
    [
        (False, KafkaConnectionError("x"), False),
        (True, KafkaConnectionError("x"), True),
        (False, ValueError("x"), True),
    ],
)
def test_only_kafka_that_is_away_at_the_start_does_not_end_the_process(is_up, reason, is_fatal):
    told = []
    job = SimpleNamespace(start=None, finish=None, assigned=print, revoked=print, fatal=told.append)
    made = app.new_app(KafkaSettings(bootstrap_servers="127.0.0.1:1"), group="g", client_id="c", topics=["t"], job=job)
    made.is_up = is_up
    made._crash(reason)
    assert told == [reason] * is_fatal
    assert made.crash_reason is reason
