"""oneDNN's programs are few, as many as a forward pass needs, unless the environment says otherwise."""

import os
import subprocess
import sys

import pytest

from inference_workers.engines import PROGRAMS_KEPT
from inference_workers.engines.places import MERGED_GROUPS_MAX

SETTINGS = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
PRINT = f"import os, inference_workers.engines; print([os.environ[name] for name in {SETTINGS}])"
LINEARS_OF_A_LAYER, PRODUCTS_OF_ATTENTION = 4, 2


@pytest.mark.parametrize("given", [None, "7"])
def test_the_environment_wins(given):
    environment = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    if given is not None:
        environment |= dict.fromkeys(SETTINGS, given)
    done = subprocess.run([sys.executable, "-c", PRINT], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str([given or PROGRAMS_KEPT] * 2)


def test_the_shapes_of_a_pass_fit():
    assert int(PROGRAMS_KEPT) >= PRODUCTS_OF_ATTENTION * MERGED_GROUPS_MAX + LINEARS_OF_A_LAYER
