"""The generated reference is what the code says now, and it is valid."""

import json
import re
from pathlib import Path

import jsonschema
import pytest

from infra.documents import LETTER_HEADERS, REASONS, pages, write
from infra.metrics import CATALOGUE
from infra.settings_check import application_settings
from schemas import topics
from schemas.base import Reason, encode
from schemas.dead_letters import DeadLetter
from schemas.requests import InferenceRequested

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = pages(application_settings())


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_page_is_not_stale(name):
    assert (DOCS / name).read_text() == PAGES[name], "run `make docs`"


def test_no_schema_is_left_over():
    assert {f"schemas/{path.name}" for path in (DOCS / "schemas").glob("*.json")} <= set(PAGES)


def test_a_changed_page_is_noticed(tmp_path):
    write(tmp_path)
    assert write(tmp_path) == []
    (tmp_path / "topics.md").write_text("old")
    (tmp_path / "schemas" / "gone.json").write_text("{}")
    assert {path.name for path in write(tmp_path)} == {"topics.md", "gone.json"}


@pytest.mark.parametrize("name", sorted(name for name in PAGES if name.startswith("schemas/")))
def test_a_schema_is_a_schema_with_a_title(name):
    schema = json.loads(PAGES[name])
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["title"]


def test_the_schema_agrees_with_the_model():
    validator = jsonschema.Draft202012Validator(json.loads(PAGES["schemas/inference.requested.json"]))
    assert validator.is_valid(json.loads(encode(InferenceRequested(input="a"))))
    assert validator.is_valid({"input": ["a"], "a_newer_field": 1})
    assert not validator.is_valid({"input": []})
    assert not validator.is_valid({})


def test_asyncapi_has_every_topic_that_is_read_and_only_references_that_exist():
    document = json.loads(PAGES["asyncapi.json"])
    assert document["asyncapi"] == "3.1.0"
    assert {one["address"] for one in document["channels"].values()} == {
        topic.name for topic in topics.DECLARED if topic.kinds
    }
    for message in document["components"]["messages"].values():
        assert message["payload"]["schema"]["$ref"].removeprefix("./") in PAGES
    for operation in document["operations"].values():
        assert operation["channel"]["$ref"].removeprefix("#/channels/") in document["channels"]
    for channel in document["channels"].values():
        for one in channel["messages"].values():
            assert one["$ref"].removeprefix("#/components/messages/") in document["components"]["messages"]


def test_every_header_and_reason_of_a_dead_letter_is_explained():
    letter = DeadLetter.of(
        topic="t",
        partition=0,
        offset=0,
        stage="worker",
        reason=Reason.NOT_JSON,
        detail="no",
        key=b"k" * 9_000,
        value=b"{" * 9_000,
        topic_id="T",
        headers=(),
        value_bytes_max=5_000,
    )
    assert [name for name, _ in letter.record_headers()] == list(LETTER_HEADERS)
    assert set(REASONS) == set(Reason)
    for word in [*LETTER_HEADERS, *(reason.value for reason in Reason)]:
        assert f"| `{word}` |" in PAGES["topics.md"]


def test_what_is_kept_of_a_topic_is_said():
    page = PAGES["topics.md"]
    assert "no limit" not in page
    assert page.count("Kept: the last record of each key. ") == sum(
        topic.cleanup is topics.Cleanup.COMPACT for topic in topics.DECLARED
    )


def test_every_variable_read_outside_the_settings_is_explained():
    read = set()
    for name in ("infra", "producers", "inference_workers", "stream_jobs"):
        for path in (DOCS.parent / name).rglob("*.py"):
            text = path.read_text()
            read |= set(re.findall(r"environ(?:ment)?(?:\.get\(|\[)\"(INFERWATCH_\w+)\"", text))
            read |= set(re.findall(r"envvar=\"(INFERWATCH_\w+)\"", text))
    assert "INFERWATCH_CACHE_DIR" in read
    for variable in read:
        assert f"| `{variable}` |" in PAGES["settings.md"]


def test_every_setting_is_explained():
    for cls in application_settings():
        for name, field in cls.model_fields.items():
            assert field.description, f"{cls.__name__}.{name}"


def test_every_metric_is_explained_and_in_one_place():
    page = PAGES["metrics.md"]
    for family in CATALOGUE.families:
        about = family.description
        assert f"| `{about.name}` | {about.kind.value} |" in page
        assert all(f"`{label}`" in page for label in about.labels)
    declared = {family.description.name for family in CATALOGUE.families} | {
        "inferwatch_batch_compute_duration_seconds"
    }
    for name in ("infra", "producers", "inference_workers", "stream_jobs"):
        for path in (DOCS.parent / name).rglob("*.py"):
            written = set(re.findall(r"\"(inferwatch_[a-z_]+(?:_total|_seconds|_bytes|_ratio))\"", path.read_text()))
            assert written <= declared, path
