from infra.up.child_log import ChildLog


def test_a_full_log_moves_aside_and_at_most_two_files_are_kept(tmp_path):
    log = ChildLog(tmp_path / "logs" / "worker.log", bytes_max=1_000)
    for number in range(100):
        log.write(b"line %03d " % number + b"x" * 90 + b"\n")
    log.close()
    files = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert files == ["worker.log", "worker.log.1"]
    assert all(path.stat().st_size <= 1_100 for path in (tmp_path / "logs").iterdir())
    assert log.recent[-1].startswith("line 099")
    assert len(log.recent) == 40


def test_a_log_goes_on_where_the_last_run_ended(tmp_path):
    for text in (b"one\n", b"two\n"):
        log = ChildLog(tmp_path / "a.log")
        log.write(text)
        log.close()
    assert (tmp_path / "a.log").read_text() == "one\ntwo\n"


def test_a_line_that_cannot_be_written_is_counted_and_nothing_raises(tmp_path):
    log = ChildLog(tmp_path / "a.log")
    log.close()
    log.write(b"late\n")
    assert log.lost_lines == 1
