"""Plans batches: which waiting requests go together, in which forward passes, and when. Pure; a plan is plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from schemas.telemetry import BatchReason

if TYPE_CHECKING:  # settings import this file, and numpy is slow to import
    from inference_workers.ports import Item

WINDOW_BATCHES = 16
"""How many batches' worth of the oldest requests are looked at for company of similar length. On shopping queries a
batch then takes no longer than one of all queries in order of length; of 4 batches' worth it takes 6 % longer."""
DEADLINE_MARGIN_MS = 20
"""A batch is closed this long before a member's deadline, and what it takes to compute before that: time to be told of,
and all there is while nothing is known of computing."""


@dataclass(frozen=True, slots=True)
class BatchLimit:
    """Bounds of a batch. `tokens_max` counts one forward pass with padding: sequences times the longest.

    `margin_ms` before a member's deadline it is closed; see `ComputeTimes`.
    """

    tokens_max: int
    requests_max: int
    wait_ms_max: int
    margin_ms: int = DEADLINE_MARGIN_MS

    @property
    def window(self) -> int:
        """How many of the oldest requests are looked at."""
        return WINDOW_BATCHES * self.requests_max


@dataclass(frozen=True, slots=True)
class Waiting:
    """What the planner needs to know of a request: the cost of each input in tokens, when it came, when it is too late.

    `urgency_ms` orders the waiting: when it came, less its scenario's head start. So an urgent scenario goes first, and
    nobody starves, for what comes later is less urgent by as much.
    """

    lengths: tuple[int, ...]
    since_ms: int
    deadline_ms: int | None = None
    urgency_ms: int = 0
    longest: int = field(init=False)
    """Tokens of its longest input."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "longest", max(self.lengths))  # once: each plan looks at a thousand of them


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """A batch: `members` are indexes into the waiting list, rising; and why it was closed."""

    members: tuple[int, ...]
    reason: BatchReason


@dataclass(frozen=True, slots=True)
class Arrangement:
    """What a batch computes: its different `items`, in `passes` of one forward pass each (numbers of items, sorted by
    cost), and `places`: for each member the numbers of its items, in order. Equal items are computed once."""

    items: tuple[Item, ...]
    passes: tuple[tuple[int, ...], ...]
    places: tuple[tuple[int, ...], ...]


def plan_batch(waiting: Sequence[Waiting], limit: BatchLimit, now_ms: int, *, only_full: bool) -> BatchPlan | None:
    """The next batch of `waiting` (most urgent first), or None: wait for company.

    The most urgent is always a member, so nobody starves; its company is the closest in length, which keeps padding
    low. `only_full` is for a busy device: a batch that could still grow while it waits anyway is not closed yet.
    A request larger than a whole pass goes alone, in several passes.
    """
    if not waiting:
        return None
    window = waiting[: limit.window]
    members, full = _company(window, limit)
    reason = BatchReason.FULL if full else None if only_full else _why_now(window, limit, now_ms)
    if reason is None:
        return None
    return BatchPlan(members, reason)


def seconds_until_due(waiting: Sequence[Waiting], limit: BatchLimit, now_ms: int) -> float:
    """How long a batch that is not full may still wait, in seconds; 0 when it is due."""
    window = waiting[: limit.window]
    return 0.0 if _went_back(window, now_ms) else max(0, min(_due_ms(one, limit) for one in window) - now_ms) / 1000


def expired(waiting: Sequence[Waiting], limit: BatchLimit, now_ms: int) -> list[int]:
    """Indexes of requests within the planner's window whose deadline has passed, rising."""
    window = waiting[: limit.window]
    return [i for i, one in enumerate(window) if one.deadline_ms is not None and one.deadline_ms < now_ms]


def _due_ms(one: Waiting, limit: BatchLimit) -> int:
    due = one.since_ms + limit.wait_ms_max
    return due if one.deadline_ms is None else min(due, one.deadline_ms - limit.margin_ms)


def _went_back(window: Sequence[Waiting], now_ms: int) -> bool:
    """Whether the clock was set back since one of them came: nobody shall wait until it is as late again."""
    return any(one.since_ms > now_ms for one in window)


def _why_now(window: Sequence[Waiting], limit: BatchLimit, now_ms: int) -> BatchReason | None:
    if min(one.since_ms for one in window) + limit.wait_ms_max <= now_ms or _went_back(window, now_ms):
        return BatchReason.TIMEOUT
    return BatchReason.DEADLINE if any(_due_ms(one, limit) <= now_ms for one in window) else None


def _company(window: Sequence[Waiting], limit: BatchLimit) -> tuple[tuple[int, ...], bool]:
    """The most urgent and its neighbours by length, in order of urgency; and whether the batch is full."""
    order = sorted(range(len(window)), key=[one.longest for one in window].__getitem__)
    low = order.index(0)  # the batch is order[low:high]
    high = low + 1
    first = longest = window[0].longest
    sequences = len(window[0].lengths)
    open_below, open_above, blocked = low > 0, high < len(order), False
    while open_below or open_above:
        if high - low >= limit.requests_max:
            blocked = True
            break
        # Below first on a tie: shorter company never lengthens the padding of what is there.
        down = open_below and (
            not open_above or first - window[order[low - 1]].longest <= window[order[high]].longest - first
        )
        one = window[order[low - 1 if down else high]]
        fits = (sequences + len(one.lengths)) * max(longest, one.longest) <= limit.tokens_max
        if fits:
            sequences, longest = sequences + len(one.lengths), max(longest, one.longest)
            low, high = (low - 1, high) if down else (low, high + 1)
        blocked = blocked or not fits
        if down:
            open_below = fits and low > 0
        else:
            open_above = fits and high < len(order)
    full = blocked or high - low >= limit.requests_max or sequences * longest >= limit.tokens_max
    return tuple(sorted(order[low:high])), full


def arrange(members: Sequence[Sequence[Item]], tokens_max: int) -> Arrangement:
    """Forward passes for the items of each member: equal ones once, each pass within `tokens_max` with padding, a
    costlier item alone."""
    numbers: dict[bytes, int] = {}
    items: list[Item] = []
    places = []
    for member in members:
        place = []
        for item in member:
            number = numbers.setdefault(item.content, len(items))
            if number == len(items):
                items.append(item)
            place.append(number)
        places.append(tuple(place))
    return Arrangement(tuple(items), passes_of([item.cost for item in items], tokens_max), tuple(places))


def passes_of(costs: Sequence[int], tokens_max: int) -> tuple[tuple[int, ...], ...]:
    """Numbers of items sorted by cost, cut into passes within `tokens_max` with padding; a costlier item alone."""
    passes: list[list[int]] = []
    for number in sorted(range(len(costs)), key=lambda i: (costs[i], i)):
        if not passes or (len(passes[-1]) + 1) * costs[number] > tokens_max:
            passes.append([])
        passes[-1].append(number)
    return tuple(map(tuple, passes))
