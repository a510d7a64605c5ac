"""`inferwatch up --for`: a run with broken requests in it, summed up; and the same folder again."""

import json


def run(start, seconds, folder=None):
    pipeline = start("--for", f"{seconds}s", "--rate", "220", "--broken-share", "0.01", "--json", folder=folder)
    out, _ = pipeline.process.communicate(timeout=150)
    assert pipeline.process.returncode == 0, pipeline.log()[-4000:]
    return pipeline, json.loads(out)


def test_the_books_of_a_run_balance_and_the_folder_serves_again(start):
    folder = None
    for seconds in (6, 5):
        pipeline, summary = run(start, seconds, folder)
        folder = pipeline.folder
        books = summary["books"]
        assert books["balanced"], summary
        sent, a_second, delivered = pipeline.simulated()
        # Of the time that it sent in: its own start is part of the seconds asked for, and as long as it takes.
        assert a_second > 120, pipeline.log()[-4000:]
        assert books["sent"] == sent == delivered > 224, "the first broken request is number 224"
        assert books["sent"] == sum(books[name] for name in ("answered", "failed", "shed", "dead_lettered", "owed"))
        assert books["answered"] == books["telemetry_rows"] == books["table_rows"]
        assert books["dead_lettered"] > 0
        assert books["owed"] == 0
        assert set(summary["restarts"].values()) == {0}, f"{summary['restarts']}\n{pipeline.log()[-4_000:]}"
        assert summary["first_prediction_seconds"] > 0
        assert not (pipeline.folder / "stack" / "stack.json").exists()
