"""`inferwatch up` on servers that it did not start: named by the two variables, used, left as they are."""

import json

from infra.clickhouse import ClickHouse


def test_the_books_of_a_run_on_given_servers_balance(start, kafka, clickhouse, unique):
    tables = ClickHouse(clickhouse)
    tables.command(f"CREATE DATABASE {unique}")
    pipeline = start(
        *("--for", "5s", "--rate", "100", "--json"),
        INFERWATCH_KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap_servers,
        INFERWATCH_CLICKHOUSE_URL=clickhouse.url,
        INFERWATCH_CLICKHOUSE_DATABASE=unique,
        INFERWATCH_WORKER_GROUP=f"worker-{unique}",
        INFERWATCH_JOBS_GROUP=f"jobs-{unique}",
    )
    out, _ = pipeline.process.communicate(timeout=150)
    assert pipeline.process.returncode == 0, pipeline.log()[-4000:]
    summary = json.loads(out)
    books = summary["books"]
    assert books["balanced"], summary
    sent, a_second, delivered = pipeline.simulated()
    assert a_second > 40, pipeline.log()[-4000:]
    assert books["sent"] == sent == delivered > 0
    assert books["answered"] == books["telemetry_rows"] == books["table_rows"] > 0
    assert set(summary["restarts"]) == {"worker", "simulator", "jobs"}, "no server was started"
    assert f"{kafka.bootstrap_servers} (yours)" in pipeline.log()
    assert f"{clickhouse.url} (yours)" in pipeline.log()
    ((answered,),) = tables.query(f"SELECT uniqExact(request_id) FROM {unique}.requests WHERE outcome = 'answered'")[1]
    tables.close()
    assert answered >= books["answered"]
