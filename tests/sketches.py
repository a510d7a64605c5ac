"""What a sketch holds, said plainly: the loops of the product must put values in the same buckets."""

import numpy as np

from stream_jobs.sketch import ENDS


def buckets_of(values):
    """The bucket of each value (0 to 1e12)."""
    return np.searchsorted(ENDS, values, side="left").astype(np.int64)
