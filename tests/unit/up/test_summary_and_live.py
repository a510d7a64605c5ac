import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from infra.up.books import Account
from infra.up.live import LineDisplay, LiveDisplay, display_for
from infra.up.picture import Picture
from infra.up.plan import Addresses, UpOptions
from infra.up.status_line import status_line
from infra.up.summary import Summary
from infra.up.view import View
from infra.up.where_to_look import where_to_look
from tests.views import BALANCED, NOTHING, SNAPSHOT, VIEW


def summary(account: Account = BALANCED, drained: bool = True, traffic_asked: bool = True) -> Summary:
    snapshot = replace(SNAPSHOT, account=account)
    restarts, versions, differences = {"worker": 1}, {"python": "3.11"}, ["partition 0: something"]
    return Summary(60.0, snapshot, drained, restarts, versions, differences, traffic_asked)


def test_the_exit_code_says_whether_the_books_balance():
    assert summary().exit_code == 0
    assert summary(replace(BALANCED, owed=1), drained=False).exit_code == 75
    assert summary(replace(BALANCED, table_rows=8)).exit_code == 70
    assert summary(replace(BALANCED, table_rows=8), drained=False).exit_code == 75


def test_books_of_nothing_are_no_success_where_there_was_to_be_traffic():
    assert NOTHING.balanced
    silent, asked_for_none = summary(NOTHING), summary(NOTHING, traffic_asked=False)
    assert (silent.exit_code, asked_for_none.exit_code) == (75, 0)
    assert "no request was sent" in silent.as_text()
    assert "no request was sent" not in asked_for_none.as_text() + summary().as_text()
    assert [one.as_json()["sent_nothing"] for one in (silent, asked_for_none, summary())] == [True, False, False]


def test_the_summary_has_all_figures_for_a_program():
    found = summary().as_json()
    assert found["books"]["balanced"] is True
    assert found["books"]["table_rows"] == 9
    assert found["latency_ms"] == {"p50": 12.3, "p95": 45.0, "p99": None}
    assert found["first_prediction_seconds"] == 6.25
    assert found["alerts"] == {"opened": 1, "resolved": 0, "still_open": list(SNAPSHOT.open_alerts)}
    assert found["restarts"] == {"worker": 1}
    assert found["unreadable"] == 0


def test_the_summary_for_people_says_balanced_or_not():
    assert "books      balanced: sent 10 = answered 9" in summary().as_text()
    assert "NOT BALANCED" in summary(replace(BALANCED, owed=1)).as_text()


def test_records_that_cannot_be_read_are_shown():
    some = replace(SNAPSHOT, unreadable=3)
    view = replace(VIEW, snapshot=some)
    assert "unreadable 3" in status_line(view)
    assert "unreadable" not in status_line(VIEW)
    assert any("unreadable" in line and "3" in line for line in drawn(view, 120).splitlines())
    ended = Summary(60.0, some, True, {}, {}, [], True)
    assert ended.as_json()["unreadable"] == 3
    assert "unreadable 3 records" in ended.as_text()


def drawn(view: View, width: int, height: int = 60) -> str:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=False)
    console.print(Picture(view))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_picture_shows_what_matters_at_any_width():
    for width in (80, 120, 200):
        text = drawn(VIEW, width)
        for word in ("250/s", "kafka", "waiting", "[bold]120[/bold]", "127.0.0.1:9092", "not_json", "jobs ended"):
            assert word in text, (word, width)


EMBEDDED = Addresses("127.0.0.1:41234", "http://127.0.0.1:41235", 41234, 41235)
PLACES = where_to_look(
    EMBEDDED,
    UpOptions(),
    Path("/a/folder/with/a/long/name/of/its/own/and/more/.inferwatch/logs"),
    {"worker": 9_000, "jobs": 9_001},
)
BUSY = replace(
    VIEW,
    snapshot=replace(
        SNAPSHOT,
        account=replace(BALANCED, sent=12_345_678, answered=12_300_000, table_rows=12_300_000, owed=45_678),
        recent_ms={0.5: 1_234.0, 0.95: 12_345.0, 0.99: 23_456.0},
        lags={"inference-workers": 123_456, "stream-jobs-score": 1_234_567},
        oldest_owed_seconds=310.0,
        dead_letters={"unreadable_json": 50_000, "wrong_headers": 40_000, "unknown_version": 3},
        open_alerts=tuple(f"{n}: 95 % of answers of search/all-MiniLM-L6-v2/1 take {n}00 ms" * 3 for n in range(9)),
        problems=("Kafka: " + "broker is away " * 20, "ClickHouse: " + "is away " * 20, "and more"),
    ),
    events=tuple(f"{n:7.1f} s  {'something happened and is said at length ' * 4}" for n in range(5)),
    where=PLACES,
)
"""All that can be shown at once."""
CALM = replace(VIEW, where=PLACES, snapshot=replace(SNAPSHOT, open_alerts=()))
NEEDED = ("250/s", "sent", "latency", "lag", "owed", "127.0.0.1:41234", "http://127.0.0.1:41235", "topic alerts")
QUERY = 'inferwatch query "SELECT outcome, count() FROM requests GROUP BY 1"'


@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 60), (100, 24), (120, 30), (120, 60), (200, 24)])
@pytest.mark.parametrize("view", [CALM, BUSY, replace(CALM, events=())], ids=["calm", "busy", "new"])
def test_figures_and_where_to_look_fit_the_terminal(view, width, height):
    text = drawn(view, width, height)
    assert len(text.rstrip("\n").splitlines()) <= height
    assert [word for word in (*NEEDED, QUERY) if word not in text] == []
    assert "jobs waiting" in text or re.search(r"jobs +waiting", text)


def test_a_higher_terminal_shows_more():
    sizes = [drawn(BUSY, 120, height).count("something happened") for height in (24, 30, 60)]
    assert sizes == sorted(sizes)
    assert "restarts" in drawn(BUSY, 120, 60)
    assert "300 MB" in drawn(BUSY, 120, 60), "the table of processes"


@pytest.mark.parametrize("height", [10, 15])
def test_a_very_low_terminal_still_has_the_addresses(height):
    text = drawn(CALM, 80, height)
    assert len(text.rstrip("\n").splitlines()) <= height
    assert "127.0.0.1:41234" in text
    assert QUERY in text


def test_a_real_terminal_of_80_by_24_is_filled_to_its_end_and_no_further(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for name, value in (("COLUMNS", "80"), ("LINES", "24"), ("TERM", "xterm")):
        monkeypatch.setenv(name, value)
    stream = Terminal()
    display = display_for(stream)
    assert isinstance(display, LiveDisplay)
    display.open()
    display.show(BUSY)
    display._live.refresh()
    display.close()
    frame = stream.getvalue().split("\x1b[H")[-1].split("\x1b[?1049l")[0]
    rows = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", frame).rstrip("\n").splitlines()
    assert len(rows) == 24
    assert [word for word in (*NEEDED, QUERY) if not any(word in row for row in rows)] == []


def test_it_is_said_whose_servers_a_run_uses_and_where_its_traffic_goes():
    own = Addresses("kafka.example:9092", "https://db.example:8443", None, None)
    places = dict(where_to_look(own, UpOptions(rate=20), Path("logs")))
    assert places["Kafka"] == "kafka.example:9092 (yours)"
    assert places["ClickHouse"] == "https://db.example:8443 (yours)"
    assert places["traffic"] == "20 requests/s, 1 % broken on purpose, to your Kafka (--no-traffic: none)"
    assert "traffic" not in dict(where_to_look(own, UpOptions(traffic=False), Path("logs")))
    mixed = dict(where_to_look(Addresses("127.0.0.1:1", "https://db", 1, None), UpOptions(), Path("logs")))
    assert (mixed["Kafka"], mixed["ClickHouse"]) == ("127.0.0.1:1 (embedded)", "https://db (yours)")
    assert "traffic" not in mixed


def test_the_picture_works_before_there_is_anything():
    assert "waiting for the servers" in drawn(replace(VIEW, snapshot=None, processes=(), events=()), 80)


def test_the_line_names_what_is_down():
    line = status_line(VIEW)
    assert "requests 250/s" in line
    assert line.endswith("jobs waiting")
    assert "\n" not in line


def test_lines_come_every_five_seconds_and_a_closed_stream_is_no_error():
    stream = io.StringIO()
    display = display_for(stream)
    assert isinstance(display, LineDisplay)
    for tenth in range(100):
        display.show(replace(VIEW, uptime_seconds=tenth / 10))
    lines = stream.getvalue().splitlines()
    assert lines[0] == "up: Kafka      127.0.0.1:9092", "without a picture the places are said once"
    assert [line.split(" | ")[0] for line in lines[1:]] == ["up: 0 s", "up: 5 s"]
    stream.close()
    display.say("nobody listens")
