"""Windows of several versions of one model through the job's own book, and the alerts that they raise."""

import json
import random

from schemas.windows import SeriesKey
from stream_jobs.entry_pages import pack_entries, unpack_entries
from stream_jobs.metrics import scoring_of
from stream_jobs.series_book import SeriesBook
from stream_jobs.settings import JobSettings
from stream_jobs.stage import Effects
from stream_jobs.window_effects import WindowEffects
from stream_jobs.window_rows import RATE, SeriesWindow, WindowId, name_of

T0 = 1_700_000_000_000
TOTAL = 100.0
"""Requests a second of all versions together, usually."""


def key_of(version, model="mini"):
    return SeriesKey(model=model, version=version, scenario="search")


class Versions:
    """`shares` of what is asked for, by version, window by window, with noise on each version's and on the total."""

    def __init__(self, seed=1, noise=0.05, **settings):
        self.settings = JobSettings(**settings)
        self.owns = lambda key: True
        self.book = self.new_book()
        self.rng, self.noise = random.Random(seed), noise
        self.number = 0
        self.alerts, self.rows = [], []

    def new_book(self):
        return SeriesBook(scoring_of(self.settings, 21), self.settings.series_max, 600_000, owns=self.owns)

    def restart(self):
        """Go on from the state, as it is kept."""
        live = self.book.live
        pages = [page for group in live.groups() for page in pack_entries(live.entries(group), live.states.columns)]
        self.book = self.new_book()
        self.book.live.restore(unpack_entries(pages))

    def run(self, windows, shares, total=TOTAL, complete=True):
        """So many windows alike. Returns the alerts that open in them: (windows since the first, version)."""
        first, before = self.number, len(self.alerts)
        for _ in range(windows):
            self._window(shares, total * self.rng.lognormvariate(0, self.noise / 2), complete)
        return [(at - first, version) for at, version, status in self.alerts[before:] if status == "open"]

    def expected(self, version, model="mini"):
        """What is usual for its rate; None: not in memory."""
        return self.book.series(name_of(key_of(version, model))).metrics[RATE].trigger.usual

    def _window(self, shares, total, complete):
        length = self.settings.window_ms
        window = WindowId("t", T0 + self.number * length, T0 + (self.number + 1) * length)
        found = {}
        for version, share in shares.items():
            rate = total * share * self.rng.lognormvariate(0, self.noise)
            if rate > 0.0:
                values = {"total_ms_p95": 100.0 * self.rng.lognormvariate(0, 0.1), "total_ms_p50": 60.0}
                values |= {RATE: rate, "error_share": 0.0}
                found[name_of(key_of(version))] = SeriesWindow(key_of(version), 1_000, 1_000, values, {}, ())
        effects, given = WindowEffects(), Effects()
        self.book.score(window, found, complete, effects)
        effects.into(given)
        for event in given.events:
            if event.topic == "alerts":
                told = json.loads(event.value)
                assert told["kind"] == "throughput_drop"
                self.alerts.append((self.number, told["series"]["version"], told["status"]))
        self.rows.append(given.rows.get("window_scores_stored", {}))
        self.number += 1
