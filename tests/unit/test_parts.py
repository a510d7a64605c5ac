"""What a test does not find of the machine: skipped in words here, failed in CI."""

import pytest

from tests import parts

HERE, IN_CI = pytest.skip.Exception, pytest.fail.Exception


@pytest.mark.parametrize(("ci", "outcome"), [("", HERE), ("true", IN_CI)])
def test_a_missing_part_is_skipped_here_and_fails_in_ci(monkeypatch, tmp_path, ci, outcome):
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="the program no-such-program"):
        parts.program("no-such-program")
    monkeypatch.setattr(parts, "DEFAULT_MODEL", "no_such_package")
    with pytest.raises(outcome, match="no_such_package"):
        parts.default_model()
    monkeypatch.setenv("INFERWATCH_DATA", str(tmp_path / "none"))
    with pytest.raises(outcome, match="real data"):
        parts.real_data()


def test_data_that_nobody_has_put_beside_the_checkout_are_skipped_also_in_ci(monkeypatch, tmp_path):
    monkeypatch.setenv("CI", "true")
    monkeypatch.delenv("INFERWATCH_DATA", raising=False)
    monkeypatch.setattr(parts, "WORKPLACE", tmp_path / "shared")
    with pytest.raises(HERE, match="not shipped"):
        parts.real_data()
    (tmp_path / "shared").mkdir()
    with pytest.raises(IN_CI, match="real data"):
        parts.real_data()


def test_what_is_there_is_given(monkeypatch, tmp_path):
    monkeypatch.setenv("INFERWATCH_DATA", str(tmp_path))
    assert parts.real_data() == tmp_path
    assert parts.program("sh").endswith("/sh")
