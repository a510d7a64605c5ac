"""Arrays reach the device whole, in one copy, from a buffer that grows and is used again."""

import numpy as np
import pytest
import torch

from inference_workers.engines.staging import HostStaging, PinnedStaging, staging_for


def staged():
    copied = []

    def copy(host):
        copied.append(host.data_ptr())
        return host.clone()

    return PinnedStaging(copy, pinned=False), copied


ARRAYS = [
    np.arange(6, dtype=np.int32).reshape(2, 3),
    np.array([], np.int32),
    np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 2, 2),
    np.arange(12, dtype=np.int32).reshape(3, 4).T,
    np.array([-5], np.int32),
]


@pytest.mark.parametrize("staging", [staged()[0], HostStaging()])
def test_arrays_arrive_as_they_were(staging):
    found = staging.send(ARRAYS)
    for array, tensor in zip(ARRAYS, found, strict=True):
        assert tensor.shape == array.shape
        assert tensor.dtype == (torch.float32 if array.dtype == np.float32 else torch.int32)
        assert np.array_equal(tensor.numpy(), array)


def test_one_copy_a_batch_from_one_buffer():
    staging, copied = staged()
    staging.send(ARRAYS)
    staging.send(ARRAYS[:1])
    assert len(copied) == 2
    assert len(set(copied)) == 1, "the buffer is used again"
    [large] = staging.send([np.arange(100_000, dtype=np.int32)])
    assert large[-1] == 99_999
    assert len(copied) == 3
    staging.send(ARRAYS)
    assert copied[-1] == copied[-2]


@pytest.mark.parametrize("dtype", [np.int64, np.float64, np.bool_])
def test_what_does_not_fit_the_cells_is_a_mistake(dtype):
    with pytest.raises(TypeError, match="int32 or float32"):
        staged()[0].send([np.zeros(3, dtype)])


def test_for_cuda_the_buffer_is_pinned(monkeypatch):
    """No device here: what is asked of torch, and then not."""
    pinned, empty = [], torch.empty

    def asked(*shape, pin_memory=False, **more):
        pinned.append(pin_memory)
        return empty(*shape, **more)

    monkeypatch.setattr(torch, "empty", asked)
    staging = staging_for("cuda")
    monkeypatch.setattr(staging, "_copy", torch.clone)
    staging.send(ARRAYS)
    assert pinned[-1] is True, "only from pinned memory a copy goes on beside the processor"


def test_a_cpu_copies_nothing():
    array = np.arange(4, dtype=np.int32)
    staging = staging_for("cpu")
    [tensor] = staging.send([array])
    assert tensor.data_ptr() == array.ctypes.data
    assert isinstance(staging_for("cuda"), PinnedStaging)
