"""Stage 2's view of the ledger: judges stall and lag of each scenario from what the books' owners say. Pure.

Time is the append time of the windows topic. What is not heard does not count as silence: while the broker, the ledger
or this job is away, nothing is known of the workers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

from infra.log_clock import BEHIND_MS_MAX, LogClock
from infra.up.request_heads import UNREADABLE
from schemas.anomalies import AnomalyDetected, AnomalyKind, InputRange, Score, ScoreKind
from schemas.owed import PartitionOwed, RequestsOwed
from schemas.windows import SeriesKey
from stream_jobs.anomaly_basis import AnomalyBasis
from stream_jobs.decide import AlertPolicy, IncidentState, Observation, observe, unjudged
from stream_jobs.detectors.forecast_residual import Judgement
from stream_jobs.ledger_silence import Book, Look, look_at
from stream_jobs.ledger_triggers import NAME, LedgerPolicy, lag, stall, still_seconds, waiting_seconds
from stream_jobs.settings import JobSettings
from stream_jobs.told_score import ToldScore, anomaly_id
from stream_jobs.window_effects import WindowEffects
from stream_jobs.window_rows import WindowId

LOOKS_PER_WINDOW = 4
"""While nothing is wrong it is looked so often, so that a stall is told of within two windows."""
HEARD_WINDOWS = 2
"""What a partition's owner said longer ago says nothing."""
STALL, LAG = "stalled_seconds", "oldest_owed_seconds"
NEVER = 2.0
_NAMES_MAX = 5


class LedgerWatch:
    """For the series of one partition of the windows topic. `take` what is said, then `look`."""

    def __init__(self, settings: JobSettings) -> None:
        self._window_ms = settings.window_ms
        self._look_ms = max(1, settings.window_ms // LOOKS_PER_WINDOW)
        self._idle_ms = round(settings.idle_seconds * 1000)
        self.policy = LedgerPolicy(
            stall_seconds=settings.stall_windows * settings.window_seconds,
            lag_seconds=settings.lag_windows * settings.window_seconds,
            lag_owed_min=settings.lag_owed_min,
        )
        self._alerts = {
            name: AlertPolicy(
                kind=kind,
                metric=name,
                open_windows=looks,
                unconfirmed_windows=looks,
                extreme_score=NEVER,
                resolve_windows=settings.resolve_windows,
                unjudged_ms=self._idle_ms,
                update_ms=round(settings.update_seconds * 1000),
                cool_down_ms=round(settings.cool_down_seconds * 1000),
            )
            for name, kind, looks in ((STALL, AnomalyKind.STALL, 1), (LAG, AnomalyKind.LAG, settings.open_windows))
        }
        self._clock, self._looked_ms = LogClock(), 0
        self._books: dict[int, Book] = {}
        self._incidents: dict[tuple[str, str], IncidentState] = {}
        self.changed = False
        """Whether the state changed since the owner last looked."""

    @property
    def _now_ms(self) -> int:
        return self._clock.now_ms

    def pass_time(self, appended_ms: int) -> None:
        """Note when the next record of the log was appended, before what it says is taken in."""
        if not self._books and not self._incidents:
            self._clock.restore((0, 0, 0))  # as it is after a restart: then there is no state
            self._looked_ms = 0
        if self._clock.read(appended_ms):
            # Who was heard when lies in the future now. Owners of books say all of it again within a second.
            self._books.clear()
            self._looked_ms = self._now_ms // self._look_ms * self._look_ms
        self.changed = self.changed or bool(self._books or self._incidents)

    def take(self, event: RequestsOwed) -> None:
        """Note what an owner of books says."""
        self.changed = True
        for one in event.partitions:
            self._note(event.topic_id, one)

    def incidents(self) -> list[str]:
        """Ids of the incidents that are open."""
        return [one.incident_id for one in self._incidents.values() if one.is_open]

    def look(self, effects: WindowEffects) -> None:
        """Judge, when it is time to. Called with every record of the log."""
        looked_ms = self._now_ms // self._look_ms * self._look_ms
        if not self._books or looked_ms <= self._looked_ms:
            return
        is_window = looked_ms // self._window_ms > self._looked_ms // self._window_ms
        self._looked_ms, self.changed = looked_ms, True
        for number in [n for n, book in self._books.items() if self._now_ms - book.heard_ms > self._idle_ms]:
            del self._books[number]
        fresh = {number: book for number, book in sorted(self._books.items()) if self._is_fresh(book)}
        names = {name for book in fresh.values() for name in book.owed} | {name for name, _ in self._incidents}
        for scenario in sorted(names - {UNREADABLE}):  # whoever serves the others gets rid of what cannot be read
            seen = look_at(scenario, fresh, self._now_ms, self.policy, self._window_ms)
            for metric in (STALL, LAG):
                incident = self._incidents.get((scenario, metric), IncidentState())
                if incident.is_open and not is_window:
                    continue  # once it is told, window by window
                self._judge(scenario, metric, incident, seen, effects)
                if incident.is_blank:
                    self._incidents.pop((scenario, metric), None)
                else:
                    self._incidents[scenario, metric] = incident

    def _note(self, topic_id: str, said: PartitionOwed) -> None:
        known = self._books.get(said.partition)
        if known is not None and known.topic_id == topic_id and said.epoch < known.epoch:
            return
        if known is None or known.topic_id != topic_id:
            known = Book(topic_id, said.epoch, self._now_ms)
            self._books[said.partition] = known
        heard_ms = min(self._now_ms - known.heard_ms, self._window_ms)
        served_ms = -1 if said.served_ms is None else said.served_ms
        if served_ms > known.served_ms or served_ms < known.served_ms - BEHIND_MS_MAX:  # a clock was set back
            known.still_ms = min(max(0, self._now_ms - served_ms), heard_ms)
            if said.worker != known.worker:
                known.before, known.moved_ms = known.worker, known.still_ms
            else:
                known.moved_ms += heard_ms
            known.served_ms, known.worker = served_ms, said.worker
        else:
            known.still_ms += heard_ms
            known.moved_ms += heard_ms
        known.epoch, known.heard_ms, known.next_offset = said.epoch, self._now_ms, said.next_offset
        known.owed = {
            one.scenario: (one.owed, one.oldest_ms or 0, one.oldest_offset or 0)
            for one in said.scenarios
            if one.owed == 0 or one.oldest_ms is not None
        }

    def _is_fresh(self, book: Book) -> bool:
        return self._now_ms - book.heard_ms <= HEARD_WINDOWS * self._window_ms

    def _judge(
        self, scenario: str, metric: str, incident: IncidentState, seen: Look | None, effects: WindowEffects
    ) -> None:
        series = SeriesKey(model="", version="", scenario=scenario)
        start_ms, end_ms = max(0, self._looked_ms - self._window_ms), self._looked_ms
        alert = self._alerts[metric]
        if seen is None:
            change = unjudged(incident, alert, series, start_ms, end_ms)
            if change is not None:
                effects.alert(change)
            return
        if metric == STALL:
            actual, judgement, cause = still_seconds(seen.still), stall(seen.still, self.policy), _stall_cause(seen)
        else:
            judgement, cause = lag(seen.all, self.policy), _lag_cause(seen)
            actual = waiting_seconds(seen.all, self.policy)
        observation = Observation(series, start_ms, end_ms, actual, judgement, "", cause=cause)
        if not observation.anomalous:
            change = observe(incident, alert, observation)
        else:
            window = WindowId(next(iter(seen.books.values())).topic_id, start_ms, end_ms)
            observation = replace(observation, anomaly_id=anomaly_id(window, observation, metric))
            change = observe(incident, alert, observation)
            self._tell(window, observation, alert, incident.run_onset_ms, seen, effects)
        if change is not None:
            effects.alert(change)

    def _tell(
        self,
        window: WindowId,
        seen: Observation,
        alert: AlertPolicy,
        onset_ms: int,
        look: Look,
        effects: WindowEffects,
    ) -> None:
        told = _told(seen.judgement, seen.actual, alert.metric, onset_ms, self.policy.digest())
        scenario = seen.series.scenario
        state = {
            "owed": [asdict(look.all), asdict(look.still)],
            "books": [
                [number, book.worker, book.still_ms, *book.owed[scenario]] for number, book in look.books.items()
            ],
        }
        score = {name: getattr(told, name) for name in Score.model_fields}
        event = AnomalyDetected(
            anomaly_id=seen.anomaly_id,
            kind=alert.kind,
            series=seen.series,
            metric=alert.metric,
            window_start_ms=seen.window_start_ms,
            window_end_ms=seen.window_end_ms,
            onset_ms=onset_ms,
            score=Score(**score),
            contributors={alert.metric: 1.0},
            strength=told.strength,
            inputs=[
                InputRange(partition=number, first_offset=book.owed[scenario][2], next_offset=book.next_offset)
                for number, book in look.books.items()
            ],
        )
        effects.anomaly(window, event, told, AnomalyBasis(state, scored_input="", scored_config=""))
        effects.score(window, seen, told, alert.metric)

    def entries(self) -> list[Any]:
        """The state as rows of plain values; none while nothing was heard."""
        if not self._books and not self._incidents:
            return []
        now_ms, *doubted = self._clock.entries()
        rows: list[Any] = [["clock", now_ms, self._looked_ms, *doubted]]
        rows += [["book", number, asdict(book)] for number, book in sorted(self._books.items())]
        rows += [["incident", *name, one.state()] for name, one in sorted(self._incidents.items())]
        return rows

    def restore(self, entries: Iterable[Any]) -> None:
        """Take over what `entries` gave. Raises ValueError, TypeError or KeyError when it is broken."""
        for kind, *values in entries:
            if kind == "clock":
                now_ms, self._looked_ms, *doubted = (int(one) for one in values)
                self._clock.restore([now_ms, *(doubted or (0, 0))])  # a state of before has no more
            elif kind == "book":
                book = Book(**values[1])
                book.owed = {name: (int(a), int(b), int(c)) for name, (a, b, c) in book.owed.items()}
                self._books[int(values[0])] = book
            else:
                self._incidents[str(values[0]), str(values[1])] = IncidentState.restored(values[2])


def _told(judgement: Judgement, actual: float, metric: str, onset_ms: int, digest: str) -> ToldScore:
    return ToldScore(
        score=judgement.score,
        score_kind=ScoreKind.STRENGTH,
        confidence=judgement.confidence,
        severity=judgement.score,
        actual=actual,
        expected=judgement.expected,
        lower=judgement.lower,
        upper=judgement.upper,
        strength=judgement.score,
        onset_ms=onset_ms,
        contributors={metric: 1.0},
        detector=NAME,
        config_digest=digest,
    )


def _stall_cause(seen: Look) -> str:
    who = f"worker {seen.worker} answers none" if seen.worker else "no worker answers any"
    return f"{who} of {seen.still.count} owed requests of {_places(seen.books)}"


def _lag_cause(seen: Look) -> str:
    return f"{seen.all.count} requests are owed"


def _places(books: Mapping[int, Book]) -> str:
    numbers = [str(number) for number in books]
    more = f" and {len(numbers) - _NAMES_MAX} more" if len(numbers) > _NAMES_MAX else ""
    return f"partition{'s' if len(numbers) > 1 else ''} {', '.join(numbers[:_NAMES_MAX])}{more}"
