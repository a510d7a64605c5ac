import pytest

from stream_jobs.pages import PageTracker, by_group, pack, unpack
from stream_jobs.stage import PAGE_BYTES_MAX


def test_entries_are_packed_into_pages_of_bounded_size_and_come_back_exactly():
    entries = [{"n": number, "x": 0.1 * number, "pad": "y" * 20_000} for number in range(40)]
    pages = pack(entries)
    assert len(pages) > 1
    assert max(map(len, pages)) <= PAGE_BYTES_MAX
    assert unpack(pages) == entries
    assert pack([]) == []
    with pytest.raises(ValueError, match="does not fit a page"):
        pack(["z" * PAGE_BYTES_MAX])


@pytest.mark.parametrize("page", [b"", b"{", b"[]", b'{"format":2,"entries":[]}', b'{"format":1}', b"\xff"])
def test_a_broken_page_is_refused(page):
    with pytest.raises(ValueError):
        unpack([page])


def test_a_page_in_the_middle_that_is_missing_is_noticed():
    assert by_group({"a.1": b"1", "a.0": b"0", "b-2.0": b"2"}) == {"a": [b"0", b"1"], "b-2": [b"2"]}
    for pages in ({"a.1": b""}, {"a": b""}, {".0": b""}, {"a.x": b""}):
        with pytest.raises(ValueError, match="page"):
            by_group(pages)


def test_only_what_changed_is_given_until_it_is_durable():
    groups = {"a": [b"a0", b"a1"], "b": [b"b0"]}
    tracker = PageTracker(lambda group: groups.get(group, []))
    tracker.touch("a")
    assert tracker.dirty_pages() == {"a.0": b"a0", "a.1": b"a1"}
    assert tracker.dirty_pages() == {"a.0": b"a0", "a.1": b"a1"}  # not durable yet
    tracker.mark_clean()
    assert tracker.dirty_pages() == {}
    groups["a"] = [b"a0"]
    tracker.touch("a")
    assert tracker.dirty_pages() == {"a.0": b"a0", "a.1": None}
    tracker.mark_clean()
    del groups["a"]
    tracker.touch("a")
    assert tracker.all_pages(["b"]) == {"b.0": b"b0"}
    tracker.mark_clean()
    assert tracker.dirty_pages() == {"a.0": None}  # all there is does not say what is gone
