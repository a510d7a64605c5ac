"""The whole run of `inferwatch bench detection`: every detector over every set, then promises, costs and pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.detection import choice, promises, published, quiet, speed
from benchmarks.detection.choice import Make
from benchmarks.detection.data_sets import DATA_SETS
from benchmarks.detection.set_figures import SetResult, SetRun, frozen_ratio
from benchmarks.detection.sketch import sketch

QUIET = "quiet"
SETS = (*DATA_SETS, QUIET)
QUIET_SET = "aiops29"
"""The quiet day is also judged with the threshold that is best on this set: it comes from other series."""
SERIES_FOR_PROMISES = 2
MEASURES = {"nab": "NAB standard", "aiops29": "event-F1", "asd": "average precision"}
"""What a series is called best or worst by, of the sets of which something may be shown."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run."""

    detectors: tuple[str, ...]
    """The first is the one under test: its promises, costs and pictures are taken."""
    sets: tuple[str, ...]
    data: Path
    every: int | None
    """For all detectors; None: as `choice.every` says."""
    with_speed: bool

    def missing(self) -> list[str]:
        """Files of the data folder that the plan needs and that are not there."""
        wanted = [self.labelled / name for one in self._labelled_sets() for name in DATA_SETS[one].files]
        if "nab" in self.sets:
            wanted += [self.labelled / name for name in published.FILES]
        if QUIET in self.sets:
            wanted.append(self.traces / quiet.FILE)
        return [str(path) for path in wanted if not path.is_file()]

    @property
    def labelled(self) -> Path:
        """The folder of the labelled sets."""
        return self.data / "detection"

    @property
    def traces(self) -> Path:
        """The folder of the unlabelled traces."""
        return self.data / "traces"

    def run(self, say: Say) -> dict[str, Any]:
        """All figures, as JSON."""
        rows, shown = [], []
        for number, name in enumerate(self.detectors):
            make = choice.maker(name)
            row: dict[str, Any] = {"detector": name, "digest": make(1).digest()}
            results = self._results(name, make, row, say)
            if number == 0:
                row |= self._promises(make, lambda text, name=name: say(f"{name}: {text}"))  # type: ignore[misc]
                shown = self._shown(make, results)
            if self.with_speed:
                say(f"{name}: costs")
                row |= {key: one.as_json() for key, one in speed.point_costs(make).items()}
                if number == 0:
                    row["cost_flatness"] = speed.cost_flatness(make).as_json()
            rows.append(row)
        found: dict[str, Any] = {"sets": list(self.sets), "detectors": rows, "shown": shown}
        if "nab" in self.sets:
            say("published scores of NAB")
            found["nab_published"] = published.published_board(self.labelled)
        if self.with_speed:
            say("half-space trees beside River's")
            found["half_space_trees"] = {key: one.as_json() for key, one in speed.half_space_trees().items()}
        return found

    def _labelled_sets(self) -> list[str]:
        return [one for one in self.sets if one in DATA_SETS]

    def _results(self, name: str, make: Make, row: dict[str, Any], say: Say) -> dict[str, SetResult]:
        every = choice.every(name) if self.every is None else self.every
        run = SetRun(self.labelled, make, every, lambda text: say(f"{name}: {text}"))
        results = {one: run.result(one) for one in self._labelled_sets()}
        row["sets"] = {one: result.figures for one, result in results.items()}
        sizes = [result.figures["state_bytes_most"] for one, result in results.items() if DATA_SETS[one].channels == 1]
        row["state_bytes_per_series"] = max(sizes, default=None)
        if {"aiops29", "wsd"} <= results.keys():
            there = frozen_ratio(results["aiops29"], results["wsd"])
            back = frozen_ratio(results["wsd"], results["aiops29"])
            row["frozen_aiops29_to_wsd"], row["frozen_wsd_to_aiops29"] = there, back
            row["frozen_threshold_ratio"] = min((one for one in (there, back) if one is not None), default=None)
        if QUIET in self.sets:
            say(f"{name}: the quiet day")
            rule = quiet.above(results[QUIET_SET].threshold) if QUIET_SET in results else None
            row["sets"][QUIET] = quiet.quiet_figures(make, self.traces, rule=rule)
        for result in results.values():
            result.book = None
        return results

    def _promises(self, make: Make, say: Say) -> dict[str, Any]:
        """On the first series of each set. `broken` says what does not hold, and of which series."""
        causal, looped, least, broken = True, True, 1.0, []
        for one in self._labelled_sets():
            say(f"promises on {DATA_SETS[one].title}")
            for series in islice(DATA_SETS[one].read(self.labelled), SERIES_FOR_PROMISES):
                kept = promises.causality(make, series), promises.loop_equals_batch(make, series)
                correlation = promises.invariance(make, series)
                causal, looped, least = causal and kept[0], looped and kept[1], min(least, correlation)
                holds = {
                    "causality": kept[0],
                    "loop_equals_batch": kept[1],
                    f"invariance_rank_correlation {correlation:.6f}": correlation >= promises.INVARIANCE_MIN,
                }
                broken += [f"{what} on {one}, {series.name}" for what, held in holds.items() if not held]
        found = {"causality": causal, "loop_equals_batch": looped, "invariance_rank_correlation": least}
        return found | {"broken": broken}

    def _shown(self, make: Make, results: dict[str, SetResult]) -> list[dict[str, Any]]:
        """The best and the worst series of each set whose licence lets us."""
        shown = []
        for one, measure in MEASURES.items():
            by_series = results[one].by_series if one in results else {}
            if not by_series:
                continue
            best, worst = max(by_series, key=by_series.__getitem__), min(by_series, key=by_series.__getitem__)
            for series in DATA_SETS[one].read(self.labelled):
                if series.name not in (best, worst):
                    continue
                scores = make(DATA_SETS[one].channels).run(series.time_ms, series.values)
                head = scores.alarm if one == "nab" else scores.severity
                about = {
                    "set": one,
                    "which": "best" if series.name == best else "worst",
                    "series": series.name,
                    "measure": measure,
                    "figure": by_series[series.name],
                }
                shown.append(about | sketch(series, head, results[one].threshold))
        return sorted(shown, key=lambda about: (list(MEASURES).index(about["set"]), about["which"]))
