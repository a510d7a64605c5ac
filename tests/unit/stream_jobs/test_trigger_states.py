"""Triggers' states without names and counts are the states again; counts that do not fit are refused."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_jobs.detectors.histogram_drift import BINS_MAX, COUNT_MAX
from stream_jobs.metrics import metrics_of
from stream_jobs.settings import JobSettings
from stream_jobs.trigger_states import TriggerStates

METRICS = metrics_of(JobSettings())
STATES = TriggerStates(METRICS)
COUNT = st.integers(0, COUNT_MAX) | st.sampled_from([0, 255, 256, 2**31, 2**32, COUNT_MAX])
HISTOGRAMS = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.lists(COUNT, max_size=BINS_MAX))


def triggers_with(*histograms):
    """All triggers, new but for the histograms of the first of drift."""
    triggers = {metric.name: metric.policy.detector() for metric in METRICS}
    triggers["score_drift_psi"].restore([1, 0, 0.1, -1, 10, *histograms])
    return triggers


@given(reference=HISTOGRAMS, recent=HISTOGRAMS)
def test_states_come_back_exact_and_are_not_changed(reference, recent):
    triggers = triggers_with(reference, recent)
    states = {name: copy.deepcopy(one.state()) for name, one in triggers.items()}
    left, counts = STATES.parted(triggers)
    assert len(counts) == 8 * sum(len(one) for part in (reference, recent) for one in part.values())
    assert STATES.joined(json.loads(json.dumps(left)), counts) == states
    assert {name: one.state() for name, one in triggers.items()} == states


def test_states_of_an_earlier_version_are_as_they_were():
    triggers = triggers_with({"a": [1, 2, 3]}, {"a": [], "b": [4]})
    states = {name: one.state() for name, one in triggers.items()}
    assert STATES.joined(states, b"") == states
    values = {name: [*one.values()] if isinstance(one, dict) else one for name, one in states.items()}
    assert values != states
    assert STATES.joined(values, b"") == states


@pytest.mark.parametrize("change", [-8, -1, 8])
def test_counts_that_are_not_those_of_the_lengths_are_refused(change):
    left, counts = STATES.parted(triggers_with({"a": [1, 2, 3]}, {"b": [4]}))
    with pytest.raises(ValueError, match="counts"):
        STATES.joined(left, counts[:change] if change < 0 else counts + b"\0" * change)


def test_a_length_below_0_is_refused():
    left, counts = STATES.parted(triggers_with({"a": [1, 2, 3], "b": [4]}, {}))
    left["score_drift_psi"][5] = {"a": 5, "b": -1}
    with pytest.raises(ValueError, match="below 0"):
        STATES.joined(left, counts)


def test_a_count_that_no_window_can_lead_to_is_refused():
    with pytest.raises(ValueError, match="too large"):
        triggers_with({"a": [COUNT_MAX + 1]}, {})
