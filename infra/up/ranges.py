"""Ranges of offsets, each first and one after the last: made of offsets, taken apart, and said in words. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def ranges_of(offsets: Iterable[int]) -> list[tuple[int, int]]:
    """Rising offsets as ranges (first, one after the last)."""
    found: list[tuple[int, int]] = []
    for offset in offsets:
        if found and found[-1][1] == offset:
            found[-1] = (found[-1][0], offset + 1)
        else:
            found.append((offset, offset + 1))
    return found


def without(ranges: Sequence[tuple[int, int]], others: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """What of `ranges` is in none of `others`; both rise."""
    found = []
    position = 0
    for first, after in ranges:
        while position < len(others) and others[position][1] <= first:
            position += 1
        at, look = first, position
        while at < after:
            if look < len(others) and others[look][0] < after:
                if others[look][0] > at:
                    found.append((at, others[look][0]))
                at, look = max(at, others[look][1]), look + 1
            else:
                found.append((at, after))
                break
    return found


def in_words(ranges: Sequence[tuple[int, int]], limit: int) -> str:
    """Ranges as people read them: offsets 7, 12-19 and more."""
    shown = [str(first) if after == first + 1 else f"{first}-{after - 1}" for first, after in ranges[:limit]]
    left = sum(after - first for first, after in ranges[limit:])
    if left:
        return f"offsets {', '.join(shown)} and {left:,} more"
    return f"offsets {', '.join(shown)}" + (" and more" if len(ranges) >= limit else "")
