"""What NVIDIA's driver tells about a device; the one door to pynvml. Without a driver: no device, and no error."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from infra.device_stats import DeviceReading

LOG = logging.getLogger(__name__)


class NvmlDevice:
    """A `Device` of NVIDIA's. `nvml` is the module pynvml, or what stands in for it."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml, self._handle = nvml, handle

    def read(self) -> DeviceReading:
        """See `Device.read`. What a device does not tell is None: a slice of a GPU has no utilisation of its own."""
        nvml, handle = self._nvml, self._handle
        return DeviceReading(
            utilisation=self._ask(lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100),
            memory_bytes=self._ask(lambda: int(nvml.nvmlDeviceGetMemoryInfo(handle).used)),
            power_watts=self._ask(lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000),
            temperature_celsius=self._ask(
                lambda: float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
            ),
        )

    def _ask(self, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except self._nvml.NVMLError:
            return None


def open_device(visible: str | None = None, uuid: str | None = None, nvml: Any = None) -> NvmlDevice | None:
    """The device that this process computes on, or None without a driver or without such a device.

    `uuid` is the device's own (torch tells it) and wins; else the first of `visible`, the value of
    CUDA_VISIBLE_DEVICES, counts; else the first device. Numbers are the driver's: on a machine with different GPUs
    CUDA may count otherwise, unless CUDA_DEVICE_ORDER=PCI_BUS_ID. May take a second; do it at start.
    """
    if nvml is None:
        import pynvml

        nvml = pynvml
    try:
        nvml.nvmlInit()
        handle = _handle(nvml, visible, uuid)
    except nvml.NVMLError as error:
        LOG.info("no device telemetry: %s", error)
        return None
    return None if handle is None else NvmlDevice(nvml, handle)


def _handle(nvml: Any, visible: str | None, uuid: str | None) -> Any:
    wanted = uuid or ("0" if visible is None else visible.partition(",")[0].strip())
    if wanted.isdecimal():
        return nvml.nvmlDeviceGetHandleByIndex(int(wanted))
    if wanted.startswith("MIG-"):
        return nvml.nvmlDeviceGetHandleByUUID(wanted)
    if not wanted or wanted == "-1":
        return None
    for index in range(nvml.nvmlDeviceGetCount()):  # CUDA takes the beginning of a UUID, torch leaves "GPU-" out
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        if nvml.nvmlDeviceGetUUID(handle).removeprefix("GPU-").startswith(wanted.removeprefix("GPU-")):
            return handle
    return None
