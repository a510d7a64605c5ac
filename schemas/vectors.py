"""Vectors on the wire: little-endian float32, base64, as OpenAI's `encoding_format: base64`."""

from __future__ import annotations

import base64
import binascii
import sys
from array import array
from typing import Annotated

from pydantic import Field

from schemas.base import DecodeError, Reason

Base64Float32 = Annotated[
    str,
    Field(max_length=1_048_576, pattern=r"^[A-Za-z0-9+/]*={0,2}$", description="base64 of little-endian float32"),
]


def encode_vector(buffer: bytes | memoryview) -> str:
    """Base64 of a buffer of little-endian float32 numbers (a C-contiguous numpy array's `data` will do)."""
    return base64.b64encode(buffer).decode("ascii")


def decode_vector(text: str) -> array[float]:
    """The float32 numbers of a vector. Raises `DecodeError` when the text is not base64 of whole float32s."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise DecodeError(Reason.BAD_VALUE, "the vector is not base64") from None
    if len(raw) % 4:
        raise DecodeError(Reason.BAD_VALUE, f"the vector has {len(raw)} bytes, not a multiple of 4")
    numbers = array("f")
    numbers.frombytes(raw)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
