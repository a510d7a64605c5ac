"""A run to show: books, a snapshot and a view with something of everything."""

from infra.up.books import Account
from infra.up.supervision import ChildState
from infra.up.view import ProcessRow, Snapshot, View

NOTHING = Account(
    sent=0, answered=0, failed=0, shed=0, dead_lettered=0, owed=0, telemetry_rows=0, table_rows=0, repeats=0
)
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
