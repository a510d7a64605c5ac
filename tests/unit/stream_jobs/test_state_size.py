"""The list of a partition's state pages is one record: whatever is set and whatever comes, it must fit."""

import pytest
from pydantic import ValidationError

from schemas.topics import REQUEST_STATE
from stream_jobs.open_windows import LATE_SHARES_MAX, OPEN_SHARES_MAX
from stream_jobs.pages import COLD, ENTRIES_PER_GROUP
from stream_jobs.parked_series import OPEN, SERIES_PER_PAGE, SLACK_PAGES
from stream_jobs.settings import SERIES_MAX, JobSettings
from stream_jobs.state_log import PartitionState
from stream_jobs.window_rows import WindowId
from stream_jobs.window_shares import late_group, share_group
from tests.fakes import FakeBroker

BATCH_BYTES = 200
"""What Kafka adds to a record, generously."""


class Store:
    """A StateStore on a FakeBroker."""

    def __init__(self):
        self.broker = FakeBroker()

    def append(self, partition, records):
        return [self.broker.append("state", value, key=key, partition=partition).offset for key, value in records]

    def read(self, partition, start, through):
        yield from self.broker.records["state", partition][start : through + 1]


def windows():
    end = 1_700_000_000_000
    while True:
        end += 10_000
        yield WindowId("x" * 22, end - 10_000, end)


def test_the_largest_state_that_can_be_has_a_list_of_pages_that_fits_a_record():
    window = windows()
    names = [f"series-{number}.0" for number in range(-(-SERIES_MAX // ENTRIES_PER_GROUP))]
    names += [f"{share_group(next(window), 99_999)}.0" for _ in range(OPEN_SHARES_MAX + LATE_SHARES_MAX)]
    names += [f"{late_group(next(window))}.0" for _ in range(LATE_SHARES_MAX)]
    names += [f"{kind}.{number}" for kind in ("progress", "lost", "budget", OPEN) for number in range(100)]
    pages = 2 * SERIES_MAX // SERIES_PER_PAGE + SLACK_PAGES  # half of what parked pages hold may be old
    names += [f"{COLD}{number}.0" for number in range(10**7, 10**7 + pages)]
    store = Store()
    state = PartitionState(store, 0, owner="f" * 32, source="c" * 22 + "/" + "t" * 22, digest="of 100000 partitions")
    state.take_over()
    state.write_all(dict.fromkeys(names, b"{}"), 2**62)
    largest = max(len(record.value or b"") + len(record.key) for record in store.broker.of("state"))
    assert 700_000 < largest < REQUEST_STATE.message_bytes_max - BATCH_BYTES


def test_more_series_than_that_cannot_be_asked_for():
    assert JobSettings(series_max=SERIES_MAX).series_max == SERIES_MAX
    with pytest.raises(ValidationError, match="series_max"):
        JobSettings(series_max=SERIES_MAX + 1)
