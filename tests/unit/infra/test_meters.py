"""Metrics: what is counted is what is shown, in both formats, and nothing that is not known."""

import gzip
import math
import threading

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from infra.meters import Catalogue, Exposition, Kind
from infra.metrics import CATALOGUE, EVERY, JOBS, WATCHDOG, WORKER

OPENMETRICS = "application/openmetrics-text;version=1.0.0"


@pytest.fixture
def catalogue():
    return Catalogue()


def shown(catalogue, parts=("p",)):
    """Samples by name and labels; both formats must say the same."""
    exposition = Exposition(catalogue, parts)
    text, openmetrics = exposition.render(), exposition.render(OPENMETRICS)
    assert text.content_type.startswith("text/plain")
    assert openmetrics.content_type.startswith("application/openmetrics-text")
    found = [
        {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in parse(body.decode())
            for sample in family.samples
            if not sample.name.startswith("process_")
        }
        for parse, body in ((parse_text, text.body), (parse_openmetrics, openmetrics.body))
    ]
    assert found[0] == found[1]
    return found[0]


def test_counters_count_up_from_nothing(catalogue):
    plain = catalogue.counter("p", "a_total", "help")
    by = catalogue.counter("p", "b_total", "help", ["x"])
    assert shown(catalogue) == {("a_total", ()): 0.0}
    plain.inc()
    by.labels("1").inc(2.5)
    by.labels("1").inc()
    by.labels("2").inc(0)
    assert shown(catalogue) == {("a_total", ()): 1.0, ("b_total", (("x", "1"),)): 3.5, ("b_total", (("x", "2"),)): 0.0}


def test_a_gauge_that_is_not_known_is_not_shown(catalogue):
    gauge = catalogue.gauge("p", "g", "help")
    assert shown(catalogue) == {}
    gauge.set(4.0)
    assert shown(catalogue) == {("g", ()): 4.0}
    gauge.set(None)
    assert shown(catalogue) == {}


def test_a_followed_value_is_asked_for_and_may_fail(catalogue):
    values = iter([1.0, 1.0, None, None])
    catalogue.gauge("p", "g", "help").follow(lambda: next(values))
    other = catalogue.counter("p", "c_total", "help")
    assert shown(catalogue)["g", ()] == 1.0
    assert shown(catalogue) == {("c_total", ()): 0.0}
    other.inc()
    assert shown(catalogue) == {("c_total", ()): 1.0}  # the iterator is at its end: that raises


def test_a_histogram_counts_by_upper_bounds(catalogue):
    one = catalogue.histogram("p", "h_seconds", "help", [0.001, 0.01, 1.0], ["x"])
    one.labels("a").observe_all([0.0005, 0.001, 0.002, 5.0])
    one.labels("a").observe(1.0)
    values = shown(catalogue)
    buckets = {dict(labels)["le"]: value for (name, labels), value in values.items() if name == "h_seconds_bucket"}
    assert buckets == {"0.001": 2.0, "0.01": 3.0, "1.0": 4.0, "+Inf": 5.0}
    assert values["h_seconds_count", (("x", "a"),)] == 5.0
    assert values["h_seconds_sum", (("x", "a"),)] == pytest.approx(6.0035)


def test_what_is_no_duration_spoils_no_histogram(catalogue):
    one = catalogue.histogram("p", "h_seconds", "help", [1.0])
    one.observe_all([math.nan, math.inf, -math.inf, -3.0, 0.5])
    one.observe_all([])
    assert one.labels().read() == ([2, 2], 0.5)


def test_label_values_are_what_they_are_or_readable(catalogue):
    one = catalogue.counter("p", "c_total", "help", ["x"])
    one.labels('a"b\n\\').inc()
    one.labels("half \ud800 a pair").inc()
    assert {dict(labels)["x"] for _, labels in shown(catalogue)} == {'a"b\n\\', "half ? a pair"}


def test_cells_can_be_forgotten_by_a_label(catalogue):
    one = catalogue.gauge("p", "g", "help", ["x", "y"])
    for x, y in ("aa", "ab", "bb"):
        one.labels(x, y).set(1)
    one.remove(x="a")
    assert [values for values, _ in one.cells()] == [("b", "b")]
    one.remove()
    assert one.cells() == []


def test_a_wrong_number_of_labels_is_refused(catalogue):
    with pytest.raises(ValueError, match="labels"):
        catalogue.gauge("p", "g", "help", ["x"]).set(1)


def test_only_the_parts_of_the_process_are_shown(catalogue):
    catalogue.counter("p", "mine_total", "help")
    catalogue.counter("q", "theirs_total", "help")
    assert shown(catalogue, {"p"}) == {("mine_total", ()): 0.0}
    assert b"process_cpu_seconds_total" in Exposition(catalogue, {"p"}).render().body


def test_compressed_when_asked_for(catalogue):
    catalogue.counter("p", "c_total", "help")
    exposed = Exposition(catalogue, {"p"}).render("", "br, gzip")
    assert exposed.encoding == "gzip"
    assert b"c_total 0.0" in gzip.decompress(exposed.body)


def test_threads_lose_no_count(catalogue):
    counter = catalogue.counter("p", "c_total", "help", ["x"])
    histogram = catalogue.histogram("p", "h", "help", [1.0])

    def work():
        for _ in range(2_000):
            counter.labels("a").inc()
            histogram.observe(0.5)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert counter.labels("a").read() == 8_000
    assert histogram.labels().read() == ([8_000, 8_000], 4_000.0)


def test_the_catalogue_keeps_the_conventions():
    about = [one.description for one in CATALOGUE.families]
    names = [one.name for one in about]
    assert len(names) == len(set(names))
    for one in about:
        assert one.name.startswith("inferwatch_")
        assert one.name.endswith("_total") == (one.kind is Kind.COUNTER)
        assert one.help.endswith(".")
        assert one.part in (EVERY, WORKER, JOBS, WATCHDOG)
        assert "_ms" not in one.name
        allowed = {"scenario", "model_name", "model_version", "reason", "outcome", "error", "topic", "table", "what"}
        assert set(one.labels) <= allowed | {"arm", "mode", "group", "computed"}
        if one.kind is Kind.HISTOGRAM:
            assert list(one.buckets) == sorted(set(one.buckets))
            assert one.name.endswith(("_seconds", "_requests"))
        if one.name.endswith("_seconds") and one.kind is Kind.HISTOGRAM:
            assert one.buckets[0] == 0.001
