"""The page about serving names every code with which a request can fail, and every reason for which it is shed."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "serving.md").read_text()
SOURCES = [path.read_text() for path in sorted((ROOT / "inference_workers").rglob("*.py"))]


def codes_of(pattern):
    return {code for source in SOURCES for code in re.findall(pattern, source)}


def test_every_code_of_a_failure_is_explained():
    codes = codes_of(r"\b(?:Image)?Refused\(\s*\"([a-z_]+)\"") | codes_of(
        r"(?m)^    code(?:: ClassVar\[str\])? = \"([a-z_]+)\""
    )
    codes |= codes_of(r"\bFault\(\s*\"([a-z_]+)\"")
    assert {"unsupported_task", "image_timeout", "out_of_memory", "answer_too_large"} <= codes
    explained = {code for row in re.findall(r"^\| (`[^|]+) \|", PAGE, re.M) for code in re.findall(r"`([a-z_]+)`", row)}
    assert {code for code in codes if not code.startswith("image_")} <= explained
    assert "`image_...`" in PAGE


def test_every_reason_for_which_a_request_is_shed_is_explained():
    reasons = codes_of(r"super\(\).__init__\(\"([a-z_]+)\", ")
    assert {"expired", "over_limit"} <= reasons
    for reason in reasons:
        assert f"`{reason}`" in PAGE
