"""Counters, gauges and histograms that cost next to nothing while requests pass; the one door to prometheus_client.

prometheus_client renders what is collected here. Its own metrics are not used: it takes one value at a time, 1.5 us
each and 2 us more to find it by its labels. Here all values of many requests go in with one call, 0.1 us each; see
docs/decisions/0008-own-counters.md.
"""

from __future__ import annotations

import gzip
import itertools
import math
import operator
import threading
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

import numpy as np
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

FEW = 16
"""So many values are counted faster one by one than by numpy."""


class Kind(StrEnum):
    """What a metric is."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Description:
    """What is told of a metric on its page. `part` is the kind of process that has it; `buckets` are upper bounds."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]
    part: str
    buckets: tuple[float, ...] = ()


class Value:
    """One number. Thread-safe."""

    __slots__ = ("_lock", "_source", "_value")

    def __init__(self, value: float | None = None) -> None:
        self._value = value
        self._source: Callable[[], float | None] | None = None
        self._lock = threading.Lock()

    def inc(self, by: float = 1.0) -> None:
        """Add to it."""
        with self._lock:
            self._value = (self._value or 0.0) + by

    def set(self, value: float | None) -> None:
        """Replace it; None: not known, and no sample is shown."""
        self._value = value

    def follow(self, source: Callable[[], float | None]) -> None:
        """Ask `source` whenever the value is wanted, on another thread; it must not block. One that raises tells
        nothing."""
        self._source = source

    def read(self) -> float | None:
        """The number; None: not known."""
        if self._source is None:
            return self._value
        try:
            return self._source()
        except Exception:  # a gauge that cannot be read must not take the other metrics with it
            return None


class Distribution:
    """Counts by bucket, and the sum. Thread-safe."""

    __slots__ = ("_bounds", "_counts", "_lock", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._lock = threading.Lock()

    def observe(self, value: float) -> None:
        """Count one value. What is no number is left out, and a negative one is 0: clocks of two machines differ."""
        if not math.isfinite(value):
            return
        value = max(0.0, value)
        place = bisect_left(self._bounds, value)
        with self._lock:
            self._counts[place] += 1
            self._sum += value

    def observe_all(self, values: Sequence[float] | np.ndarray) -> None:
        """Count values, each as `observe` does."""
        if len(values) < FEW:
            for value in values:
                self.observe(float(value))
            return
        array = np.maximum(values, 0.0)
        total = float(array.sum())
        if not math.isfinite(total):
            array = array[np.isfinite(values)]
            total = float(array.sum())
        counts = np.bincount(np.searchsorted(self._bounds, array), minlength=len(self._counts)).tolist()
        with self._lock:
            self._counts = list(map(operator.add, self._counts, counts))
            self._sum += total

    def read(self) -> tuple[list[int], float]:
        """How many values are at most each bound, ending with all of them; and their sum."""
        with self._lock:
            return list(itertools.accumulate(self._counts)), self._sum


C = TypeVar("C", Value, Distribution)


class _Family(Generic[C]):
    """A metric's cells, by the values of its labels."""

    def __init__(self, description: Description, new_cell: Callable[[], C]) -> None:
        self.description = description
        self._new_cell: Callable[[], C] = new_cell
        self._cells: dict[tuple[str, ...], C] = {}
        self._lock = threading.Lock()

    def labels(self, *values: str) -> C:
        """The cell of these label values, in the order of the labels. Raises ValueError for another number of them."""
        cell = self._cells.get(values)
        if cell is None:
            if len(values) != len(self.description.labels):
                raise ValueError(f"{self.description.name} has the labels {self.description.labels}, not {values}")
            with self._lock:
                cell = self._cells.setdefault(values, self._new_cell())
        return cell

    def remove(self, **labels: str) -> None:
        """Forget the cells that have these values of these labels; without any, all cells."""
        places = [(self.description.labels.index(name), value) for name, value in labels.items()]
        with self._lock:
            for key in [key for key in self._cells if all(key[place] == value for place, value in places)]:
                del self._cells[key]

    def cells(self) -> list[tuple[tuple[str, ...], C]]:
        """Every cell with its label values, as they are now."""
        with self._lock:
            return list(self._cells.items())


class Counter(_Family[Value]):
    """Counts up. Its name ends in `_total`."""

    def inc(self, by: float = 1.0) -> None:
        """Add to a counter that has no labels."""
        self.labels().inc(by)

    def follow(self, source: Callable[[], float | None]) -> None:
        """See `Value.follow`: for a count that something else keeps."""
        self.labels().follow(source)

    def collect(self) -> Metric:
        """For prometheus_client."""
        about = self.description
        family = CounterMetricFamily(about.name, about.help, labels=about.labels)
        for values, cell in self.cells():
            value = cell.read()
            if value is not None:
                family.add_metric(_printable(values), value)
        return family


class Gauge(_Family[Value]):
    """A value that goes up and down. Not set: no sample."""

    def set(self, value: float | None) -> None:
        """Set a gauge that has no labels; None: not known."""
        self.labels().set(value)

    def follow(self, source: Callable[[], float | None]) -> None:
        """See `Value.follow`, of a gauge without labels."""
        self.labels().follow(source)

    def collect(self) -> Metric:
        """For prometheus_client."""
        about = self.description
        family = GaugeMetricFamily(about.name, about.help, labels=about.labels)
        for values, cell in self.cells():
            value = cell.read()
            if value is not None:
                family.add_metric(_printable(values), value)
        return family


class Histogram(_Family[Distribution]):
    """Counts values by buckets."""

    def observe(self, value: float) -> None:
        """Count one value of a histogram that has no labels."""
        self.labels().observe(value)

    def observe_all(self, values: Sequence[float] | np.ndarray) -> None:
        """Count values of a histogram that has no labels."""
        self.labels().observe_all(values)

    def collect(self) -> Metric:
        """For prometheus_client."""
        about = self.description
        family = HistogramMetricFamily(about.name, about.help, labels=about.labels)
        bounds = [*map(floatToGoString, about.buckets), "+Inf"]
        for values, cell in self.cells():
            counts, total = cell.read()
            family.add_metric(_printable(values), list(zip(bounds, counts, strict=True)), total)
        return family


class Catalogue:
    """Declares metrics, each once, and remembers them in order."""

    def __init__(self) -> None:
        self.families: list[Counter | Gauge | Histogram] = []

    def counter(self, part: str, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        """Declare a counter. Without labels it starts at 0."""
        found = Counter(Description(name, Kind.COUNTER, text, tuple(labels), part), lambda: Value(0.0))
        if not labels:
            found.labels()
        self.families.append(found)
        return found

    def gauge(self, part: str, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        """Declare a gauge."""
        found = Gauge(Description(name, Kind.GAUGE, text, tuple(labels), part), Value)
        self.families.append(found)
        return found

    def histogram(
        self, part: str, name: str, text: str, buckets: Sequence[float], labels: Sequence[str] = ()
    ) -> Histogram:
        """Declare a histogram. Without labels it starts empty. `buckets` are upper bounds that rise."""
        about = Description(name, Kind.HISTOGRAM, text, tuple(labels), part, tuple(map(float, buckets)))
        found = Histogram(about, lambda: Distribution(about.buckets))
        if not labels:
            found.labels()
        self.families.append(found)
        return found


@dataclass(frozen=True, slots=True)
class Exposed:
    """A body for /metrics with its headers. `encoding` is empty or gzip."""

    content_type: str
    encoding: str
    body: bytes


class Exposition(Collector):
    """What a process of these parts shows on /metrics: their metrics, and the client library's of the process."""

    def __init__(self, catalogue: Catalogue, parts: Collection[str]) -> None:
        self._families = [one for one in catalogue.families if one.description.part in parts]
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """For prometheus_client. Metrics without a sample are left out."""
        for one in self._families:
            family = one.collect()
            if family.samples:
                yield family

    def render(self, accept: str = "", accept_encoding: str = "") -> Exposed:
        """The text in the format that `accept` asks for: Prometheus' own, or OpenMetrics."""
        encoder, content_type = choose_encoder(accept)
        body = encoder(self._registry)
        if gzip_accepted(accept_encoding):
            return Exposed(content_type, "gzip", gzip.compress(body, compresslevel=1))
        return Exposed(content_type, "", body)


def _printable(values: Sequence[str]) -> list[str]:
    """Label values as UTF-8 can say them: half a surrogate pair would break the whole page."""
    return [value.encode("utf-8", "replace").decode() for value in values]
