"""A fingerprint is equal for equal faults and differs for different ones."""

import re

import pytest

from infra.fingerprints import fingerprint


def caught(run, *arguments):
    with pytest.raises(Exception) as info:
        run(*arguments)
    return info.value


def code(text, file="a.py", **names):
    space = dict(names)
    exec(compile(text, file, "exec"), space)  # noqa: S102 - the text is this test's own
    return space


def fails(text, call, file="a.py", **names):
    return fingerprint(caught(lambda: code(text, file, **names)[call]()))


BASE = "def outer():\n    return inner()\ndef inner():\n    raise ValueError('x')\n"


def test_it_is_short_and_stays_the_same_over_releases():
    found = fails(BASE, "outer")
    assert re.fullmatch(r"[0-9a-f]{16}", found)
    assert fingerprint(ValueError("never raised")) == "b6276ba72bbc5084"


@pytest.mark.parametrize(
    "same",
    [
        "\n\n# moved down\n" + BASE,
        BASE.replace("'x'", "'another message at 0x7f00deadbeef'"),
        BASE.replace("return inner()", "return [inner() for _ in 'ab']"),
    ],
)
def test_lines_messages_and_comprehensions_do_not_count(same):
    assert fails(same, "outer") == fails(BASE, "outer")


@pytest.mark.parametrize(
    "other",
    [
        BASE.replace("ValueError", "KeyError"),
        BASE.replace("inner", "deeper"),
        BASE.replace("raise ValueError('x')", "raise ValueError('x') from KeyError()"),
    ],
)
def test_class_way_and_cause_count(other):
    assert fails(other, "outer") != fails(BASE, "outer")


def test_folders_and_made_up_names_do_not_count():
    one = fails(BASE, "outer", "/tmp/torchinductor/ab/cxq2m4t7ayyvvd3zqzr6c2jpxjltj5o2e7lbkqxv6l3tn4o5qxyz.py")
    assert one == fails(BASE, "outer", "C:\\temp\\k\\cab7hwz3yyvvd3zqzr6c2jpxjltj5o2e7lbkqxv6l3tn4o5q7777.py")
    assert fails(BASE, "outer", "<eval_with_key>.12") == fails(BASE, "outer", "<eval_with_key>.7")
    assert one != fails(BASE, "outer", "b.py")


def test_a_recursion_counts_alike_however_deep_it_went():
    text = "def outer():\n    down(depth)\ndef down(n):\n    if not n:\n        raise ValueError\n    down(n - 1)\n"
    assert fails(text, "outer", depth=3) == fails(text, "outer", depth=30)


def test_a_ring_of_causes_ends():
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert fingerprint(first) != fingerprint(second)
