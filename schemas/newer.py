"""Events that a newer release sends beside those that this one knows: how an older reader tells them from rubbish."""

from __future__ import annotations

import re
from collections.abc import Container

from schemas.base import CONTENT_TYPE, SPEC_VERSION, Headers

_TYPE = re.compile(rb"inferwatch\.([a-z_.]{1,100})\.v[1-9][0-9]{0,3}")
_SCHEMA = re.compile(rb"urn:inferwatch:schema:([a-z_.]{1,100}):[0-9]{1,4}\.[0-9]{1,4}")


def unknown_kind(headers: Headers | None, known: Container[str]) -> str | None:
    """The `ce_type` of a well-formed event of ours whose kind is not `known`; None for anything else.

    Well-formed: the headers that all our writers set are there and agree (`schemas.base.headers_for`).
    """
    found = {name: value for name, value in headers or () if value}
    kind, schema = _TYPE.fullmatch(found.get("ce_type", b"")), _SCHEMA.fullmatch(found.get("ce_dataschema", b""))
    if kind is None or schema is None or kind[1] != schema[1] or kind[1].decode() in known:
        return None
    fixed = {"ce_specversion": SPEC_VERSION, "content-type": CONTENT_TYPE}
    agree = all(found.get(name) == value.encode() for name, value in fixed.items())
    return kind[0].decode() if agree and {"ce_id", "ce_source"} <= found.keys() else None
