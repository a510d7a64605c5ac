import struct
from dataclasses import replace

from benchmarks.capacity_chart import DOTS, INCHES, draw
from benchmarks.load_policy import Verdict, saturation
from tests.unit.benchmarks.test_load_policy import GOOD, step


def size_of(path):
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:24])


def test_the_curve_is_a_picture(tmp_path):
    steps = [step(100.0), step(200.0), step(400.0, Verdict.FALLS_BEHIND, 260.0), step(283.0, Verdict.TOO_SLOW, 255.0)]
    draw(tmp_path / "curve.png", steps, saturation(steps), "Capacity: holds 200/s", "poisson arrivals")
    assert size_of(tmp_path / "curve.png") == tuple(int(inches * DOTS) for inches in INCHES)


def test_one_step_without_any_answer_is_drawn_too(tmp_path):
    unanswered = replace(GOOD, unanswered=100, throughput_per_second=0.0)
    steps = [replace(step(100.0, Verdict.FALLS_BEHIND), measure=unanswered)]
    draw(tmp_path / "curve.png", steps, saturation(steps), "Capacity: no rate was sustained", "constant arrivals")
    assert size_of(tmp_path / "curve.png")
