from stream_jobs import compiled_requests, compiled_window
from stream_jobs.detectors import compiled
from stream_jobs.settings import JobSettings
from stream_jobs.warming import warm_up


def test_all_loops_of_stage_1_are_compiled_before_the_first_record():
    warm_up(JobSettings())
    loops = [
        *(compiled_requests.read_requests, compiled_requests.hashes_of, compiled.score_then_learn),
        *(compiled_window.count_outcomes, compiled_window.add_at, compiled_window.add_floats_at),
        *(compiled_window.raise_at, compiled_window.raise_floats_at, compiled_window.sketch_rows),
        *(compiled_window.bins_of, compiled_window.count_bins, compiled_window.squashed, compiled_window.sorted_codes),
    ]
    assert [loop.__name__ for loop in loops if not loop.signatures] == []
