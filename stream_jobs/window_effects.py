"""What stage 2 asks of the outside, collected: rows of five tables, anomaly events and alerts, in order."""

from __future__ import annotations

import hashlib

import orjson

from schemas.alerts import AlertChanged, alert_row
from schemas.anomalies import AnomalyDetected, DetectorsRenewed, SeriesBoundReached, WindowCorrected
from schemas.base import Message, encode, headers_for
from schemas.tables import ALERTS, ANOMALIES, LATENCY_CAUSES, WINDOW_SCORES, WINDOWS
from schemas.topics import ALERTS as ALERTS_TOPIC
from schemas.topics import ANOMALIES as ANOMALIES_TOPIC
from stream_jobs.anomaly_basis import SCORING_FORMAT, AnomalyBasis
from stream_jobs.attribution.sentence import causes_row
from stream_jobs.decide import Observation
from stream_jobs.partial_events import SOURCE, moment
from stream_jobs.rows import RowBuilder
from stream_jobs.stage import Effects, Limit, Outgoing
from stream_jobs.told_score import ToldScore, told_columns
from stream_jobs.window_rows import SeriesWindow, WindowId, id_of, name_of, source_columns


class WindowEffects:
    """Effects in the making. Times in rows are epoch milliseconds."""

    def __init__(self) -> None:
        self._windows, self._scores = RowBuilder(WINDOWS), RowBuilder(WINDOW_SCORES)
        self._anomalies, self._alerts = RowBuilder(ANOMALIES), RowBuilder(ALERTS)
        self._causes = RowBuilder(LATENCY_CAUSES)
        self._events: list[Outgoing] = []
        self.incidents: set[str] = set()
        """Ids of incidents that changed."""
        self._limits: list[tuple[Limit, int]] = []

    def window(self, window: SeriesWindow) -> None:
        """A series' window, or a revision of it."""
        self._windows.add(window.row)

    def causes(self, window: WindowId, found: SeriesWindow) -> None:
        """Why a series' requests took as long as they did, where that is known."""
        if found.causes is not None:
            self._causes.add({**window.labels(found.key), **causes_row(found.causes)})

    def correction(self, window: WindowId, series: SeriesWindow, revision: int) -> None:
        """What a closed window really held, and the revision of its row."""
        self.window(series)
        event = WindowCorrected.model_construct(
            series=series.key,
            window_start_ms=window.start_ms,
            window_end_ms=window.end_ms,
            revision=revision,
            requests=series.requests,
            values=series.values,
            inputs=list(series.inputs),
        )
        corrected = id_of(window.topic_id, name_of(series.key), str(window.start_ms), str(window.end_ms))
        event_id = f"{corrected}/{revision}"
        self._publish(ANOMALIES_TOPIC.name, event, event_id, str(series.key), window.end_ms)

    def renewed(self, event: DetectorsRenewed) -> None:
        """Detectors learn anew."""
        self._events.append(renewed_event(event, "detectors"))

    def bound(self, event: SeriesBoundReached) -> None:
        """More series are known than are kept in memory."""
        event_id = f"bound/{event.partition}/{event.at_ms}/{event.parked}/{event.parked_now}"
        self._publish(ANOMALIES_TOPIC.name, event, event_id, f"series/{event.partition}", event.at_ms)

    def score(self, window: WindowId, seen: Observation, told: ToldScore, metric: str) -> None:
        """What was said of a metric."""
        self._scores.add(
            {
                **window.labels(seen.series),
                **told_columns(told),
                "onset": told.onset_ms,
                "metric": metric,
                "learning": seen.judgement.learning,
                "anomalous": seen.anomalous,
            }
        )

    def anomaly(self, window: WindowId, event: AnomalyDetected, told: ToldScore, basis: AnomalyBasis) -> None:
        """An anomalous window, with the detector's state just before it, and what else recomputes it."""
        text = orjson.dumps(basis.state, option=orjson.OPT_SORT_KEYS)
        event = event.model_copy(update={"state_digest": hashlib.sha256(text).hexdigest()})
        self._anomalies.add(
            {
                **window.labels(event.series),
                **told_columns(told),
                "anomaly_id": event.anomaly_id,
                "kind": event.kind.value,
                "metric": event.metric,
                "onset": event.onset_ms,
                "contributors": list(event.contributors),
                "contributions": list(event.contributors.values()),
                "state_digest": event.state_digest,
                "state": text.decode(),
                "scored_input": basis.scored_input,
                "scored_config": basis.scored_config,
                "scoring_format": SCORING_FORMAT,
                **source_columns(event.inputs),
            }
        )
        self._publish(ANOMALIES_TOPIC.name, event, event.anomaly_id, str(event.series), event.window_end_ms)

    def alert(self, change: AlertChanged) -> None:
        """A change of an incident."""
        self.incidents.add(change.incident_id)
        self._alerts.add(alert_row(change))
        event_id = f"{change.incident_id}/{change.sequence}"
        self._publish(ALERTS_TOPIC.name, change, event_id, change.incident_id, change.changed_ms)

    def limit(self, what: Limit, count: int) -> None:
        """A bound left so many out; 0: it was not reached."""
        self._limits.append((what, count))

    def into(self, effects: Effects) -> None:
        """Hand everything over."""
        for rows in (self._windows, self._causes, self._scores, self._anomalies, self._alerts):
            rows.into(effects.rows)
        effects.events.extend(self._events)
        for what, count in self._limits:
            effects.limit(what, count)

    def _publish(self, topic: str, message: Message, event_id: str, key: str, at_ms: int) -> None:
        self._events.append(_outgoing(topic, message, event_id, key, at_ms))


def renewed_event(event: DetectorsRenewed, of: str) -> Outgoing:
    """The event that detectors learn anew, of a partition of what is named `of`."""
    event_id = f"renewed/{event.partition}/{event.at_ms}/{event.config_digest}"
    return _outgoing(ANOMALIES_TOPIC.name, event, event_id, f"{of}/{event.partition}", event.at_ms)


def _outgoing(topic: str, message: Message, event_id: str, key: str, at_ms: int) -> Outgoing:
    headers = headers_for(message, event_id=event_id, source=SOURCE, time=moment(at_ms), subject=key)
    return Outgoing(topic, encode(message), key=key.encode(), headers=headers)
