"""Golden samples: requests with the answers that a model must give, within a tolerance, before it may serve."""

from inference_workers.golden.compare import judge
from inference_workers.golden.run import answer, check_golden, record
from inference_workers.golden.samples import Golden, Sample, Tolerance, golden_for, read_golden, write_golden

__all__ = [
    "Golden",
    "Sample",
    "Tolerance",
    "answer",
    "check_golden",
    "golden_for",
    "judge",
    "read_golden",
    "record",
    "write_golden",
]
