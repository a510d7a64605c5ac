"""Windows of many kinds through the job's own scoring, and the rows that it asks for, as they are read back."""

import random

from schemas.tables import ANOMALIES
from schemas.windows import SeriesKey
from stream_jobs.metrics import scoring_of
from stream_jobs.series_book import SeriesBook
from stream_jobs.settings import JobSettings
from stream_jobs.stage import Effects
from stream_jobs.window_effects import WindowEffects
from stream_jobs.window_rows import SeriesWindow, WindowId, name_of

KEY = SeriesKey(model="mini", version="1", scenario="search")
T0 = 1_700_000_000_000


def rows_of(effects, table=ANOMALIES):
    """Rows as dictionaries, in order."""
    columns = effects.rows.get(table.name, {})
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


class Run:
    """A book of one series, given windows of what its metrics read."""

    def __init__(self, **settings):
        self.settings = JobSettings(**settings)
        self.book = SeriesBook(scoring_of(self.settings, 21), self.settings.series_max, 600_000)
        self.number = 0
        self.effects = []

    def window(self, values=None, **more):
        """`values` None: the series is absent."""
        length = self.settings.window_ms
        window = WindowId("t", T0 + self.number * length, T0 + (self.number + 1) * length)
        self.number += 1
        found = {}
        if values is not None:
            row = {"source_partitions": [0], "source_first_offsets": [self.number], "source_next_offsets": [99]}
            found[name_of(KEY)] = SeriesWindow(KEY, 1_000, 1_000, values, row, (), **more)
        effects, given = WindowEffects(), Effects()
        self.book.score(window, found, True, effects)
        effects.into(given)
        self.effects.append(given)
        return given

    def anomalies(self):
        return [row for effects in self.effects for row in rows_of(effects)]


def values(rng, slow=1.0, errors=0.0, oom=0.0, empty=0.0, rate=100.0):
    p95 = slow * 100.0 * rng.lognormvariate(0, 0.1)
    return {
        "total_ms_p95": p95,
        "total_ms_p50": 0.6 * p95,
        "requests_per_second": rate * rng.lognormvariate(0, 0.05),
        "error_share": errors,
        "timed_out": 0.0,
        "out_of_memory": oom,
        "empty": empty,
        "repeated": 0.0,
        "schema_broken": 0.0,
        "memory_bytes_max": 1e9,
    }


def faulty_run(seed=1, usual=240):
    """Every kind that a window alone can show, between usual windows."""
    run, rng = Run(), random.Random(seed)
    faults = [{"slow": 20.0}, {"errors": 0.5}, {"oom": 3.0}, {"empty": 400.0}, {"rate": 1.0}, None]
    for _ in range(usual):
        run.window(values(rng))
    for fault in faults:
        for _ in range(5):
            run.window(None if fault is None else values(rng, **fault))
        for _ in range(12):
            run.window(values(rng))
    return run


def drifting_run(seed=2):
    """Texts that become longer, which histograms show."""
    run, rng = Run(reference_windows=10), random.Random(seed)
    for number in range(90):
        bins = [0, 0, 900, 100] if number < 50 else [0, 0, 100, 200, 700]
        run.window(values(rng), histograms={"token_bins": bins})
    return run
