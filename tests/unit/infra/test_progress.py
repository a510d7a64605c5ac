"""The contiguous done prefix of a partition."""

import pytest

from infra.progress import Progress


def test_the_prefix_moves_over_what_is_settled_in_any_order():
    progress = Progress("t", 0, 1)
    receipts = [progress.begin(offset) for offset in (5, 6, 9)]  # 7 and 8 were compacted away
    receipts[1].settle()
    assert progress.take_next_offset() is None
    receipts[0].settle()
    assert progress.take_next_offset() == 7
    assert progress.take_next_offset() is None
    receipts[2].settle()
    assert progress.take_next_offset() == 10
    assert len(progress) == 0


def test_an_offset_is_done_when_all_its_deliveries_are():
    progress = Progress("t", 0, 2)
    receipt = progress.begin(0)
    receipt.settle()
    assert progress.take_next_offset() is None
    receipt.settle()
    assert progress.take_next_offset() == 1
    with pytest.raises(ValueError, match="settled more often"):
        receipt.settle()


def test_offsets_rise():
    progress = Progress("t", 0, 1)
    progress.begin(3)
    assert not progress.follows(3)
    with pytest.raises(ValueError, match="offset 3 after 3"):
        progress.begin(3)


def test_after_closing_nothing_moves():
    progress = Progress("t", 0, 1)
    receipt = progress.begin(0)
    progress.close()
    receipt.settle()
    assert not receipt.is_alive()
    assert progress.take_next_offset() is None


def test_the_oldest_that_is_not_done_has_its_age():
    progress = Progress("t", 0, 1)
    assert progress.oldest_ms is None
    receipts = [progress.begin(offset, 1_000 * offset) for offset in (5, 6)]
    receipts[1].settle()
    assert progress.oldest_ms == 5_000
    receipts[0].settle()
    assert progress.oldest_ms is None


def test_an_offset_owes_all_until_its_first_delivery():
    progress = Progress("t", 0, 2)
    receipts = [progress.begin(offset) for offset in range(3)]
    receipts[0].settle()
    receipts[2].settle()
    assert progress.owes_all_of_any([0, 1, 2])
    assert not progress.owes_all_of_any([0, 2])
    receipts[0].settle()
    assert not progress.owes_all_of_any([0, 2]), "one that is done owes nothing"


def test_records_of_which_nothing_is_delivered_yet_are_counted():
    progress = Progress("t", 0, 2)
    for offset in (3, 4, 9):
        progress.begin(offset)
    assert (progress.untouched, progress.unfinished) == (3, 3)
    progress.settle(4)
    progress.settle_all((9, 4))
    assert (progress.untouched, progress.unfinished) == (1, 3)
    progress.settle_all((3, 3))
    assert (progress.untouched, progress.unfinished) == (0, 1)
    progress.close()
    assert progress.untouched == 0
