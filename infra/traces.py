"""W3C trace context: what is done under a request's trace gets a span of its own in it. Pure."""

from __future__ import annotations

from collections.abc import Callable

TRACE_ID = slice(3, 35)
"""Where `00-<32 hex>-<16 hex>-<2 hex>` has its trace id."""

RandomBits = Callable[[int], int]
"""A number of so many random bits: `random.Random().getrandbits`, 0.1 us; `os.urandom` would take 1 us."""


def child_of(traceparent: str | None, random_bits: RandomBits) -> str | None:
    """The context of an answer to a request of this context: the same trace, a new span, the same flags.

    `traceparent` is valid, as `schemas.base.traceparent_of` gives it, or None; then there is no trace to carry on. The
    flags stay, as the specification asks: whoever began the trace decided whether it is sampled.
    """
    if traceparent is None:
        return None
    return f"{traceparent[:36]}{random_bits(64) or 1:016x}{traceparent[52:]}"  # a span of zeros is invalid


def trace_id_of(traceparent: str | None) -> str:
    """The trace id; empty without a context."""
    return "" if traceparent is None else traceparent[TRACE_ID]
