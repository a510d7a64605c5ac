"""The command itself, without a pipeline."""

import sys
import threading

import pytest

from tests.chaos import disks, run
from tests.chaos.checker import Verdict


def test_a_run_that_breaks_off_says_what_it_waits_for(monkeypatch, tmp_path):
    told, said = threading.Event(), []

    def breaks_off(folder, seed, options, with_disks, after_faults):
        after_faults()
        raise RuntimeError("Kafka went away")

    def say(text):
        if "waiting for the controls to end" in text:
            said.append(text)
            told.set()

    monkeypatch.setattr(sys, "argv", ["chaos", "--folder", str(tmp_path)])
    monkeypatch.setattr(disks, "enter", lambda: "no disks here")
    monkeypatch.setattr(run, "main_run", breaks_off)
    monkeypatch.setattr(run, "controls_run", lambda *given: {"told": told.wait(10.0)})
    monkeypatch.setattr(run, "say", say)
    with pytest.raises(RuntimeError, match="Kafka went away"):
        run.main()
    assert said == ["the run broke off with RuntimeError: Kafka went away; waiting for the controls to end"]


def test_what_is_wrong_is_said_last_and_nothing_else():
    clean = Verdict(audit_agrees=True)
    summary = {**clean.as_dict(), "not_recovered_in_60_s": [], "controls": {"a": {"as_it_must": True}}}
    assert run.failures(summary) == {}
    bad = Verdict(audit_agrees=False)
    bad.found("lost", ["no answer: 5"])
    summary = {
        **bad.as_dict(),
        "not_recovered_in_60_s": ["Kill worker"],
        "controls": {"a": {"as_it_must": True}, "b": {"as_it_must": False, "why": {}}},
    }
    assert run.failures(summary) == {
        "lost": 1,
        "not_recovered_in_60_s": ["Kill worker"],
        "audit_agrees": False,
        "named": {"lost": ["no answer: 5"]},
        "controls": {"b": {"as_it_must": False, "why": {}}},
    }


def test_a_run_that_is_not_clean_ends_with_what_is_wrong(monkeypatch, tmp_path, capsys):
    bad = Verdict()
    bad.found("lost", ["no answer: 5"])
    figures = {"kills": 1, "not_recovered_in_60_s": []}
    monkeypatch.setattr(sys, "argv", ["chaos", "--folder", str(tmp_path), "--only", "run"])
    monkeypatch.setattr(disks, "enter", lambda: None)
    monkeypatch.setattr(run, "main_run", lambda *given: (bad, figures))
    assert run.main() == 1
    assert (
        capsys.readouterr().err.splitlines()[-1].endswith('NOT clean: {"lost": 1, "named": {"lost": ["no answer: 5"]}}')
    )
