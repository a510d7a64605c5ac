import io
from dataclasses import replace

from rich.console import Console

from infra.up.books import Account
from infra.up.live import LineDisplay, display_for, picture, status_line
from infra.up.summary import Summary
from infra.up.supervision import ChildState
from infra.up.view import ProcessRow, Snapshot, View

BALANCED = Account(
    sent=10, answered=9, failed=0, shed=0, dead_lettered=1, owed=0, telemetry_rows=9, table_rows=9, repeats=1
)
SNAPSHOT = Snapshot(
    account=BALANCED,
    sent_per_second=250.0,
    predictions_per_second=249.0,
    rows_per_second=248.0,
    recent_ms={0.5: 12.3, 0.95: 45.0, 0.99: None},
    run_ms={0.5: 12.3, 0.95: 45.0, 0.99: None},
    lags={"inference-workers": 3},
    oldest_owed_seconds=None,
    dead_letters={"not_json": 1},
    unreadable=0,
    anomalies=2,
    alerts_opened=1,
    alerts_resolved=0,
    open_alerts=("search is slow: 95 % of answers take 900 ms, [bold]120[/bold] expected",),
    devices=("cpu",),
    models=("minilm",),
    first_prediction_seconds=6.25,
    problems=(),
)
VIEW = View(
    phase="running",
    uptime_seconds=12.0,
    processes=(
        ProcessRow("kafka", ChildState.RUNNING, 17, 0, 12.0, 300_000_000),
        ProcessRow("jobs", ChildState.WAITING, None, 3, None, None),
    ),
    snapshot=SNAPSHOT,
    events=("12.0 s  jobs ended",),
    where=(("Kafka", "127.0.0.1:9092"),),
)


def summary(account: Account = BALANCED, drained: bool = True) -> Summary:
    snapshot = replace(SNAPSHOT, account=account)
    return Summary(60.0, snapshot, drained, {"worker": 1}, {"python": "3.11"}, ["partition 0: something"])


def test_the_exit_code_says_whether_the_books_balance():
    assert summary().exit_code == 0
    assert summary(replace(BALANCED, owed=1), drained=False).exit_code == 75
    assert summary(replace(BALANCED, table_rows=8)).exit_code == 70
    assert summary(replace(BALANCED, table_rows=8), drained=False).exit_code == 75


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
    ended = Summary(60.0, some, True, {}, {}, [])
    assert ended.as_json()["unreadable"] == 3
    assert "unreadable 3 records" in ended.as_text()


def drawn(view: View, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, height=60, force_terminal=False)
    console.print(picture(view))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_picture_shows_what_matters_at_any_width():
    for width in (80, 120, 200):
        text = drawn(VIEW, width)
        for word in ("250/s", "kafka", "waiting", "[bold]120[/bold]", "127.0.0.1:9092", "not_json", "jobs ended"):
            assert word in text, (word, width)


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
    assert stream.getvalue().count("\n") == 2
    stream.close()
    display.say("nobody listens")
