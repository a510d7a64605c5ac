"""Records the anomalies that replays are held to: `python -m tests.golden.record_anomalies`, with a new SCORING_FORMAT.

Two rows of each metric. Recording them anew without another format makes every replay of what is stored differ.
"""

import json
from collections import Counter
from pathlib import Path

from tests.anomaly_rows import drifting_run, faulty_run

PATH = Path(__file__).parent / "anomalies.json"


def main():
    seen, kept = Counter(), []
    for row in [*faulty_run(seed=11).anomalies(), *drifting_run(seed=12).anomalies()]:
        seen[row["metric"]] += 1
        if seen[row["metric"]] <= 2:
            kept.append(row)
    PATH.write_text("[\n" + ",\n".join(json.dumps(row, sort_keys=True) for row in kept) + "\n]\n")
    print(f"{len(kept)} anomalies of {len(seen)} metrics")


if __name__ == "__main__":
    main()
