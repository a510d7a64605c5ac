import sys

import click
import pytest

from benchmarks.embedding_job import EmbeddingJob, least_cosine, run_job

JOB = EmbeddingJob("model", "cpu", "float32", 1, (8,), ["a"], ["a", "b"])


def command(code):
    return [sys.executable, "-c", code]


def test_a_job_goes_in_as_json_and_the_last_line_comes_out():
    code = (
        "import json, os, sys; job = json.load(sys.stdin); print('noise');"
        "print(json.dumps({'per_second': len(job['texts']), 'cpu_us_per_request': 2.5, 'batch': job['batches'][0],"
        " 'probe': [[1.0]], 'version': '7', 'threads': os.environ['OMP_NUM_THREADS']}))"
    )
    found = run_job(command(code), JOB)
    assert (found.per_second, found.cpu_us_per_request, found.batch, found.version) == (2.0, 2.5, 8, "7")
    assert found.facts == {"threads": "1"}


@pytest.mark.parametrize("code", ["raise SystemExit('no torch here')", "print('no JSON')", "print('{}')"])
def test_one_that_fails_is_told_in_its_own_words(code):
    with pytest.raises(click.ClickException, match="exit code") as raised:
        run_job(command(code), JOB)
    assert raised.value.exit_code == 75
    if "torch" in code:
        assert "no torch here" in raised.value.message


def test_the_least_cosine_tells_whether_both_computed_the_same():
    assert least_cosine([[1.0, 0.0], [0.0, 2.0]], [[3.0, 0.0], [0.0, 1.0]]) == pytest.approx(1.0)
    assert least_cosine([[1.0, 0.0], [0.0, 2.0]], [[3.0, 0.0], [1.0, 0.0]]) == pytest.approx(0.0)
