from stream_jobs import compiled_requests, compiled_window
from stream_jobs.attribution import compiled_regression, compiled_sums
from stream_jobs.detectors import compiled, compiled_two_heads
from stream_jobs.settings import JobSettings
from stream_jobs.warming import warm_up


def test_all_loops_are_compiled_before_the_first_record():
    warm_up(JobSettings())
    loops = [
        *(compiled_requests.read_requests, compiled_requests.hashes_of, compiled.score_then_learn),
        *(compiled_window.count_outcomes, compiled_window.add_at),
        *(compiled_window.raise_at, compiled_window.sketch_rows),
        *(compiled_window.bins_of, compiled_window.count_bins, compiled_window.squashed, compiled_window.sorted_codes),
        compiled_window.fertility_bins_of,
        *(compiled_two_heads.score_then_learn, compiled_regression.explain_then_learn),
        *(compiled_sums.fill_vectors, compiled_sums.add_vectors),
    ]
    assert [loop.__name__ for loop in loops if not loop.signatures] == []
    assert len(compiled_window.add_at.signatures) == len(compiled_window.raise_at.signatures) == 2  # ints and floats
