from pathlib import Path

import pytest

from tests.chaos import controls
from tests.chaos.checker import Verdict
from tests.chaos.controls import CONTROLS, REASON_LENGTH_MAX, is_caught, run_control, seen
from tests.chaos.patches import APPLY, PRECISE

DOC = Path(__file__).resolve().parents[3] / "docs" / "chaos.md"


@pytest.mark.parametrize("name", CONTROLS)
def test_a_controls_patches_are_there_and_it_shows_what_a_verdict_has(name):
    control = CONTROLS[name]
    assert {control.switch_off, *control.patched.split(), *PRECISE.split()} <= set(APPLY)
    assert control.must_show in Verdict.FAULTS
    assert f"| {name} |" in DOC.read_text()


def test_a_state_can_only_differ_from_a_replay():
    assert all(one.replay for one in CONTROLS.values() if one.must_show == "state_mismatch")


def test_a_control_is_caught_by_what_it_must_show_and_by_nothing_else():
    control = CONTROLS["barrier order"]
    assert is_caught(control, Verdict(lost=1))
    assert not is_caught(control, Verdict(window_mismatch=1, visible_duplicates=3))


def test_a_control_whose_jobs_did_not_come_to_their_ends_has_caught_nothing():
    assert not is_caught(CONTROLS["offset in state"], Verdict(state_mismatch=4, unfinished=1))


def test_the_audit_must_see_doubled_rows_too():
    control = CONTROLS["tokens and FINAL"]
    assert is_caught(control, Verdict(visible_duplicates=1, audit_agrees=False))
    assert not is_caught(control, Verdict(visible_duplicates=1, audit_agrees=True))
    assert not is_caught(control, Verdict(visible_duplicates=1))


def test_reasons_are_told_and_bounded():
    verdict = Verdict(audit_agrees=True)
    verdict.found("lost", [f"{number}: {'x' * 1_000}" for number in range(100)])
    told = seen(verdict)
    assert told["lost"] == 100
    assert len(told["why"]["lost"]) == 5
    assert all(len(one) == REASON_LENGTH_MAX for one in told["why"]["lost"])


@pytest.mark.parametrize(("positive", "results", "tries"), [(False, [0, 0, 1], 3), (False, [1], 1), (True, [0], 1)])
def test_what_must_not_happen_is_tried_once_and_what_may_miss_again(monkeypatch, positive, results, tries):
    told = iter(results)
    monkeypatch.setattr(controls, "_try_control", lambda *given: {"as_it_must": bool(next(told))})
    found = run_control("dead letters", Path("folder"), 1, positive)
    assert found == {"as_it_must": bool(results[-1]), "tries": tries}


def test_a_pipeline_that_does_not_recover_has_shown_nothing(monkeypatch, tmp_path):
    class Nothing:
        kafka_proxy = type("Proxy", (), {"port": 1})

        def __init__(self, *given, **named):
            pass

        def __getattr__(self, name):
            return lambda *given, **named: ""

    monkeypatch.setattr(controls, "Cluster", Nothing)
    monkeypatch.setattr(controls, "Workload", Nothing)
    monkeypatch.setattr(controls, "recovers", lambda *given: False)
    monkeypatch.setattr(controls, "finish", lambda *given, **named: pytest.fail("nothing may be judged"))
    for positive in (False, True):
        found = run_control("dead letters", tmp_path, 1, positive)
        assert found["as_it_must"] is False
        assert "did not begin to work" in found["error"]
