"""The command itself, without a pipeline."""

import sys
import threading

import pytest

from tests.chaos import disks, run


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
