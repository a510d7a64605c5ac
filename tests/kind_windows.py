"""Windows of a made-up service for tests of the kinds: partial series, merged and scored as stage 2 does."""

import json
from dataclasses import dataclass, field

import numpy as np

from schemas.telemetry import DIRECTIONS
from schemas.windows import HISTOGRAMS, PartialSeries, SeriesKey, Sketch
from stream_jobs.metrics import scoring_of
from stream_jobs.series_book import SeriesBook
from stream_jobs.settings import JobSettings
from stream_jobs.stage import Effects
from stream_jobs.window_effects import WindowEffects
from stream_jobs.window_rows import Share, WindowId, merged, name_of
from stream_jobs.windows import trimmed
from tests.sketches import buckets_of

KEY = SeriesKey(model="mini", version="1", scenario="search")
NOBODY = SeriesKey(model="", version="", scenario="")
T0 = 1_700_000_000_000
MIB = 2**20


def bins_of(name, values):
    edges = np.array(HISTOGRAMS[name])
    return trimmed(np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1).tolist())


def sketch_of(values):
    buckets, counts = np.unique(buckets_of(np.array(values)), return_counts=True)
    return Sketch(
        bucket=buckets.tolist(), count=counts.tolist(), sum=float(sum(values)), min=min(values), max=max(values)
    )


@dataclass
class Service:
    """Draws windows; what is set holds until it is set otherwise. Shares are of requests."""

    rng: np.random.Generator
    requests: int = 250
    length: float = 12.0
    unknown: float = 0.02
    fertility: float = 0.2
    """Tokens a byte, in the middle."""
    sure: tuple = (8.0, 3.0)
    norm: float = 5.0
    memory: float = 900.0 * MIB
    scripts: tuple = (0.0, 0.9, 0.06, 0.0, 0.04)
    """Shares of requests by number of `SCRIPTS`."""
    lean: float = 0.0
    """How far embeddings point to one side; 0: to all alike."""
    shares: dict = field(default_factory=dict)
    counts: dict = field(default_factory=dict)
    key: SeriesKey = KEY

    def _ways(self):
        weights = np.exp(self.lean * np.arange(DIRECTIONS) / DIRECTIONS)
        return weights / weights.sum()

    def window(self):
        n = max(1, int(self.requests * self.rng.lognormal(0.0, 0.2)))
        rare = {name: int(self.rng.binomial(n, share)) for name, share in self.shares.items()} | self.counts
        ms = self.rng.lognormal(4.0, 0.2, min(n, 60))
        answered = n - rare.get("timed_out", 0) - rare.get("out_of_memory", 0) - rare.get("schema_broken", 0)
        return PartialSeries(
            key=self.key,
            answered=max(0, answered),
            failed=rare.get("out_of_memory", 0),
            shed=rare.get("timed_out", 0),
            dead_lettered=rare.get("schema_broken", 0),
            tokens=n * 12,
            padded_tokens=n * 14,
            memory_bytes_max=int(self.memory),
            of_requests=rare.pop("of_requests", 0),
            token_bins=bins_of("token_bins", np.maximum(1, self.rng.lognormal(np.log(self.length), 0.5, n))),
            unknown_bins=bins_of("unknown_bins", self.rng.binomial(12, self.unknown, n) / 12),
            confidence_bins=bins_of("confidence_bins", self.rng.beta(*self.sure, n)),
            norm_bins=bins_of("norm_bins", self.rng.lognormal(np.log(self.norm), 0.08, n)),
            script_bins=trimmed(self.rng.multinomial(n, self.scripts).tolist()),
            direction_bins=trimmed([0, *self.rng.multinomial(n, self._ways()).tolist()]),
            total_ms=sketch_of(ms),
            fertility_bins=bins_of("fertility_bins", self.rng.lognormal(np.log(self.fertility), 0.22, n)),
            **rare,
        )


class Watch:
    """A book of series, fed window by window, and what it said."""

    def __init__(self, **values):
        self.settings = JobSettings(**values)
        idle_ms = round(self.settings.idle_seconds * 1000)
        self.book = SeriesBook(scoring_of(self.settings, 21), 10, idle_ms)
        self.number = 0
        self.changes, self.events, self.scores = [], [], []

    def __call__(self, *partials):
        length = self.settings.window_ms
        window = WindowId("t", T0 + self.number * length, T0 + (self.number + 1) * length)
        shares = {0: Share(0, 1, {name_of(one.key): one for one in partials})}
        found = {name: merged(window, name, shares, 0) for name in shares[0].series}
        effects, given = WindowEffects(), Effects()
        self.book.score(window, found, True, effects)
        effects.into(given)
        for event in given.events:
            message = json.loads(event.value)
            if event.topic == "alerts":
                self.changes.append((self.number, message["status"], message["kind"]))
            else:
                self.events.append((self.number, message))
        self.scores.append(given.rows.get("window_scores_stored", {}).get("metric", []))
        self.number += 1

    def run(self, service, windows):
        for _ in range(windows):
            self(service.window())
        return self

    @property
    def kinds(self):
        return {kind for _, _, kind in self.changes}

    def opened(self, kind):
        """Numbers of the windows in which an alert of this kind opened."""
        return [number for number, status, one in self.changes if status == "open" and one == kind]

    def resolved(self, kind):
        return [number for number, status, one in self.changes if status == "resolved" and one == kind]


def service(seed, **values):
    return Service(np.random.default_rng(seed), **values)
