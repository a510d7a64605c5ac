"""The envelope every message shares: CloudEvents 1.0 in Kafka binary mode, versions, decoding, decode errors.

Owns how bytes and headers become typed messages and back. Does not know topics, Kafka or any transport.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Generic, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

CONTENT_TYPE = "application/json"
SPEC_VERSION = "1.0"
VALUE_BYTES_MAX = 1_048_576
"""Largest value a reader looks into, bytes. Equals the source topics' `max.message.bytes`."""
KEY_BYTES_MAX = 65_536
"""Largest key of a request, bytes: its answer carries the key too and must fit a record beside it."""
INT64_MAX = 2**63 - 1

Headers = Sequence[tuple[str, bytes | None]]
"""Kafka record headers, in order; a key may repeat, a value may be null."""

UNREADABLE_HEADERS: Headers = (("inferwatch.headers.unreadable", None),)
"""What a reader gives for headers it cannot hand over because a name is not UTF-8. `decode` refuses them."""

_TYPE_PATTERN = re.compile(r"inferwatch\.([a-z_.]+)\.v([1-9][0-9]{0,3})")
_SCHEMA_PATTERN = re.compile(r"urn:inferwatch:schema:([a-z_.]+):([0-9]{1,4})\.([0-9]{1,4})")
_TRACEPARENT_PATTERN = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")


class Reason(StrEnum):
    """Why a record could not be used. A closed list: dead letters and counters carry these codes."""

    NULL_VALUE = "null_value"
    EMPTY_VALUE = "empty_value"
    TOO_LARGE = "too_large"
    NOT_UTF8 = "not_utf8"
    NOT_JSON = "not_json"
    NOT_AN_OBJECT = "not_an_object"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    BAD_VALUE = "bad_value"
    NON_FINITE_NUMBER = "non_finite_number"
    WRONG_HEADERS = "wrong_headers"
    WRONG_CONTENT_TYPE = "wrong_content_type"
    UNKNOWN_TYPE = "unknown_type"
    UNKNOWN_VERSION = "unknown_version"
    UNSUPPORTED = "unsupported"
    REFUSED_BY_TABLE = "refused_by_table"


class DecodeError(ValueError):
    """A record that cannot be used: `reason` for programs, the text for people. Never a crash: a dead letter."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Part(BaseModel):
    """A part of a message: strict types, finite numbers, unknown fields kept (`model_extra`)."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="allow",
        allow_inf_nan=False,
        ser_json_inf_nan="null",
        protected_namespaces=(),
    )


class Message(Part):
    """A past-tense fact that crosses a process boundary. Subclasses set `KIND`, `MAJOR` and `MINOR`.

    A new optional field raises `MINOR`; readers keep unknown fields in `model_extra`. A change that an old reader
    would misread raises `MAJOR`; readers that do not know it make a dead letter. A new kind on a topic that only we
    write and read (`Topic.internal`) says something more, and never what another kind said before: readers that do not
    know it pass it over.
    """

    KIND: ClassVar[str]
    MAJOR: ClassVar[int] = 1
    MINOR: ClassVar[int] = 0

    @classmethod
    def event_type(cls) -> str:
        """The CloudEvents `type`, with the major version."""
        return f"inferwatch.{cls.KIND}.v{cls.MAJOR}"

    @classmethod
    def data_schema(cls) -> str:
        """The CloudEvents `dataschema`: a URN with major and minor version."""
        return f"urn:inferwatch:schema:{cls.KIND}:{cls.MAJOR}.{cls.MINOR}"


M = TypeVar("M", bound=Message)

Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.\-]{0,63}$")]
"""A bounded name used as a label: lower case, at most 64 characters."""
Label = Annotated[str, Field(min_length=1, max_length=200)]
"""A bounded text used to name a model, version or worker."""
Count = Annotated[int, Field(ge=0, le=INT64_MAX)]
"""A whole number from 0 to 2^63-1."""
EpochMs = Annotated[int, Field(ge=0, le=253_402_300_799_999)]
"""Milliseconds since 1970-01-01 UTC, up to the year 9999."""
Share = Annotated[float, Field(ge=0.0, le=1.0)]
"""A ratio from 0 to 1."""
Milliseconds = Annotated[float, Field(ge=0.0, le=1e12)]


class Identity(Part):
    """What a request is called everywhere: the position of its record on the request topic.

    `topic_id` is the topic's id and not its name, so that a topic deleted and made again never collides.
    """

    cluster_id: Label
    topic_id: Label
    partition: Annotated[int, Field(ge=0, le=2**31 - 1)]
    offset: Count

    def __str__(self) -> str:
        return f"{self.cluster_id}/{self.topic_id}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class Envelope(Generic[M]):
    """A decoded message with its CloudEvents attributes."""

    data: M
    event_id: str | None
    source: str
    time: datetime | None = None
    subject: str | None = None
    traceparent: str | None = None


def encode(message: Message) -> bytes:
    """The record value: the message as JSON. Non-finite numbers cannot occur (the model refuses them)."""
    return message.__pydantic_serializer__.to_json(message, exclude_none=True)


def time_text(moment: datetime) -> str:
    """An aware time as CloudEvents write it: RFC 3339, UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def headers_for(
    message: type[Message] | Message,
    *,
    event_id: str,
    source: str,
    time: datetime,
    subject: str | None = None,
    traceparent: str | None = None,
) -> list[tuple[str, bytes]]:
    """CloudEvents headers for a message, in binary mode. `time` must be aware; it is written as RFC 3339 UTC."""
    pairs = [
        ("ce_specversion", SPEC_VERSION),
        ("ce_id", event_id),
        ("ce_source", source),
        ("ce_type", message.event_type()),
        ("ce_time", time_text(time)),
        ("ce_dataschema", message.data_schema()),
        ("content-type", CONTENT_TYPE),
    ]
    if subject is not None:
        pairs.append(("ce_subject", subject))
    if traceparent is not None:
        pairs.append(("traceparent", traceparent))
    return [(name, value.encode()) for name, value in pairs]


def decode(
    headers: Headers | None,
    value: bytes | None,
    kinds: Iterable[type[M]],
    *,
    plain: type[M] | None = None,
    value_bytes_max: int = VALUE_BYTES_MAX,
) -> Envelope[M]:
    """Turn a record into a typed message.

    `kinds` are the messages the topic carries; `plain`, when given, is the one meant by a record without any
    CloudEvents header, as kcat sends it. Raises `DecodeError`, and nothing else, for whatever the record holds.
    """
    attributes = _attributes(headers or ())
    if not any(name.startswith("ce_") for name in attributes):
        if plain is None:
            raise DecodeError(Reason.WRONG_HEADERS, "no CloudEvents headers (ce_id, ce_source, ce_type, ...)")
        _check_content_type(attributes.get("content-type"), required=False)
        return Envelope(_parse(plain, value, value_bytes_max), None, "", None, None, traceparent_of(attributes))
    cls = _kind_of(attributes, {kind.KIND: kind for kind in kinds})
    _check_content_type(attributes.get("content-type"), required=False)
    return Envelope(
        _parse(cls, value, value_bytes_max),
        event_id=_required(attributes, "ce_id"),
        source=_required(attributes, "ce_source"),
        time=_time_of(attributes.get("ce_time")),
        subject=attributes.get("ce_subject"),
        traceparent=traceparent_of(attributes),
    )


def traceparent_of(attributes: Mapping[str, str]) -> str | None:
    """The W3C trace context of a record, or None when absent or invalid (an invalid one is ignored)."""
    text = attributes.get("traceparent", "")
    match = _TRACEPARENT_PATTERN.fullmatch(text)
    if match is None or set(match[1]) == {"0"} or set(match[2]) == {"0"}:
        return None
    return text


def _attributes(headers: Headers) -> dict[str, str]:
    attributes: dict[str, str] = {}
    if tuple(headers) == UNREADABLE_HEADERS:
        raise DecodeError(Reason.WRONG_HEADERS, "a header's name is not UTF-8")
    for name, raw in headers:
        if not name.startswith("ce_") and name not in ("content-type", "traceparent"):
            continue
        try:
            attributes[name] = (raw or b"").decode()
        except UnicodeDecodeError:
            if name != "traceparent":
                raise DecodeError(Reason.WRONG_HEADERS, f"header {name} is not UTF-8") from None
    return attributes


def _required(attributes: Mapping[str, str], name: str) -> str:
    value = attributes.get(name, "")
    if not value or len(value) > 512:
        raise DecodeError(Reason.WRONG_HEADERS, f"header {name} is {'missing' if not value else 'over 512 characters'}")
    return value


def _kind_of(attributes: Mapping[str, str], kinds: Mapping[str, type[M]]) -> type[M]:
    if _required(attributes, "ce_specversion") != SPEC_VERSION:
        raise DecodeError(Reason.WRONG_HEADERS, f"ce_specversion {attributes['ce_specversion']!r} is not 1.0")
    name = _required(attributes, "ce_type")
    match = _TYPE_PATTERN.fullmatch(name)
    if match is None or match[1] not in kinds:
        known = ", ".join(sorted(kind.event_type() for kind in kinds.values()))
        raise DecodeError(Reason.UNKNOWN_TYPE, f"ce_type {name!r} is not read here (known: {known})")
    cls = kinds[match[1]]
    if int(match[2]) != cls.MAJOR:
        raise DecodeError(Reason.UNKNOWN_VERSION, f"ce_type {name!r}: this reader knows major version {cls.MAJOR}")
    schema = attributes.get("ce_dataschema")
    if schema is not None:
        parts = _SCHEMA_PATTERN.fullmatch(schema)
        if parts is None or parts[1] != cls.KIND:
            raise DecodeError(Reason.WRONG_HEADERS, f"ce_dataschema {schema!r} does not belong to {name!r}")
        if int(parts[2]) != cls.MAJOR:
            raise DecodeError(Reason.UNKNOWN_VERSION, f"ce_dataschema {schema!r}: this reader knows major {cls.MAJOR}")
    return cls


def _check_content_type(content_type: str | None, *, required: bool) -> None:
    if content_type is None and not required:
        return
    if (content_type or "").partition(";")[0].strip().lower() != CONTENT_TYPE:
        raise DecodeError(Reason.WRONG_CONTENT_TYPE, f"content-type is {content_type!r}, not {CONTENT_TYPE!r}")


_TIME = TypeAdapter(AwareDatetime)


def _time_of(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return _TIME.validate_python(text)
    except ValidationError:
        raise DecodeError(Reason.WRONG_HEADERS, f"ce_time {text[:64]!r} is not an RFC 3339 time with a zone") from None


def _parse(cls: type[M], value: bytes | None, value_bytes_max: int) -> M:
    if value is None:
        raise DecodeError(Reason.NULL_VALUE, "the record has no value")
    if not value:
        raise DecodeError(Reason.EMPTY_VALUE, "the record's value is empty")
    if len(value) > value_bytes_max:
        raise DecodeError(Reason.TOO_LARGE, f"{len(value)} bytes, at most {value_bytes_max} are read")
    try:
        return cls.model_validate_json(value)
    except ValidationError as error:
        raise _as_decode_error(error, value) from None


_TYPE_ERRORS = ("_type", "_parsing", "_from_float", "model_attributes_type")


def _as_decode_error(error: ValidationError, value: bytes) -> DecodeError:
    found: list[Any] = error.errors(include_url=False, include_input=False)
    # A union reports every branch; the branch whose type fitted says what is really wrong.
    first = next((one for one in found if not one["type"].endswith(_TYPE_ERRORS)), found[0])
    kind = first["type"]
    where = ".".join(str(step) for step in first["loc"]) or "the value"
    if kind == "json_invalid":
        return _broken_json(value, first["msg"])
    detail = f"{where}: {first['msg']}"[:500]
    if kind == "missing":
        return DecodeError(Reason.MISSING_FIELD, detail)
    if kind == "finite_number":
        return DecodeError(Reason.NON_FINITE_NUMBER, detail)
    if where == "the value" and kind in ("model_type", "model_attributes_type", "dict_type"):
        return DecodeError(Reason.NOT_AN_OBJECT, "the value is JSON but not an object")
    if kind.endswith(_TYPE_ERRORS):
        return DecodeError(Reason.WRONG_TYPE, detail)
    return DecodeError(Reason.BAD_VALUE, detail)


def _broken_json(value: bytes, message: str) -> DecodeError:
    try:
        value.decode()
    except UnicodeDecodeError as error:
        return DecodeError(Reason.NOT_UTF8, f"byte {error.start} is not UTF-8")
    return DecodeError(Reason.NOT_JSON, message[:500])
