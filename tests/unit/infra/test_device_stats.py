"""Samples of process and device: once a second, and whatever a driver does they harm nobody."""

import threading
import time
from types import SimpleNamespace

import psutil
import pytest

from infra import metrics
from infra.clock import SystemClock
from infra.device_stats import DeviceReading, DeviceWatch, OwnUsage, ProcessSampler
from infra.nvml import open_device
from tests.fakes import FakeClock

READING = DeviceReading(0.4, 5_000, 300.5, 61.0)


class FakeUsage:
    def __init__(self):
        self.cpu, self.memory, self.asked, self.error = 10.0, 1_000, 0, None

    def cpu_seconds(self):
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.cpu

    def memory_bytes(self):
        return self.memory


@pytest.fixture
def clock():
    return FakeClock()


def test_a_sample_is_made_once_a_second(clock):
    usage, means = FakeUsage(), iter([None, 2.5, 3.0])
    sampler = ProcessSampler(usage, clock, device=lambda: READING, publish_ms=lambda: next(means))
    assert sampler.sample() is None  # a share of CPU needs two looks
    clock.advance(1.0)
    usage.cpu, usage.memory = 11.5, 2_000
    sample = sampler.sample()
    assert sample.model_dump() == {
        "process_cpu_share": 1.5,
        "process_memory_bytes": 2_000,
        "publish_ms": 2.5,
        "device_utilisation": 0.4,
        "device_memory_bytes": 5_000,
        "power_watts": 300.5,
        "temperature_celsius": 61.0,
    }
    clock.advance(0.9)
    assert sampler.sample() is sample
    assert usage.asked == 2
    assert metrics.PROCESS_MEMORY_BYTES.labels().read() == 2_000
    assert metrics.DEVICE_POWER_WATTS.labels().read() == 300.5


@pytest.mark.parametrize("error", [psutil.AccessDenied(1), OSError("gone")])
def test_a_process_that_cannot_be_looked_at_gives_no_sample(clock, error):
    usage = FakeUsage()
    sampler = ProcessSampler(usage, clock)
    sampler.sample()
    usage.error = error
    clock.advance(1)
    assert sampler.sample() is None
    usage.error = None
    clock.advance(1)
    assert sampler.sample() is not None


def test_a_reading_that_no_device_can_have_gives_no_sample(clock):
    sampler = ProcessSampler(FakeUsage(), clock, device=lambda: DeviceReading(utilisation=655.35))
    sampler.sample()
    clock.advance(1)
    assert sampler.sample() is None


def test_the_real_process_has_cpu_time_and_memory():
    usage = OwnUsage()
    assert usage.cpu_seconds() > 0
    assert usage.memory_bytes() > 1_000_000


def test_a_device_that_fails_tells_nothing_after_a_while_and_is_said_once(clock, caplog):
    device = SimpleNamespace(read=lambda: READING)
    watch = DeviceWatch(lambda: device, clock)
    assert watch.latest() == DeviceReading()
    watch.look(device)
    assert watch.latest() == READING

    def broken():
        raise RuntimeError("GPU is lost")

    device.read = broken
    for _ in range(6):
        clock.advance(1)
        watch.look(device)
    assert watch.latest() == DeviceReading()
    assert caplog.text.count("GPU is lost") == 1


def test_a_driver_that_hangs_holds_up_nobody():
    hold, stop, reading = threading.Event(), threading.Event(), threading.Event()

    def hang():
        reading.set()
        hold.wait(30)
        return READING

    clock = SystemClock()
    watch = DeviceWatch(lambda: SimpleNamespace(read=hang), clock)
    watch.start(stop)
    assert reading.wait(5)
    began = time.monotonic()
    assert watch.latest() == DeviceReading()
    assert ProcessSampler(FakeUsage(), clock, device=watch.latest).sample() is None
    assert time.monotonic() - began < 1
    stop.set()
    hold.set()


def test_without_a_device_no_thread_stays(clock):
    asked = threading.Event()
    DeviceWatch(asked.set, clock).start(threading.Event())
    assert asked.wait(5)
    for _ in range(100):
        if not any(one.name == "device-stats" and one.is_alive() for one in threading.enumerate()):
            return
        time.sleep(0.02)
    pytest.fail("the thread stays")


class NVMLError(Exception):
    pass


class FakeNvml:
    """Three devices that tell everything, and a slice that tells little."""

    NVMLError = NVMLError
    NVML_TEMPERATURE_GPU = 0

    def __init__(self, driver=True):
        self.driver = driver
        self.uuids = ["GPU-aaaa1111", "GPU-bbbb2222", "GPU-bbcc3333"]

    def nvmlInit(self):
        if not self.driver:
            raise NVMLError("NVML Shared Library Not Found")

    def nvmlDeviceGetCount(self):
        return len(self.uuids)

    def nvmlDeviceGetHandleByIndex(self, index):
        if index >= len(self.uuids):
            raise NVMLError("Invalid Argument")
        return self.uuids[index]

    def nvmlDeviceGetHandleByUUID(self, uuid):
        return uuid

    def nvmlDeviceGetUUID(self, handle):
        return handle

    def nvmlDeviceGetUtilizationRates(self, handle):
        if handle.startswith("MIG"):
            raise NVMLError("Not Supported")
        return SimpleNamespace(gpu=42)

    def nvmlDeviceGetMemoryInfo(self, handle):
        return SimpleNamespace(used=1_234)

    def nvmlDeviceGetPowerUsage(self, handle):
        return 250_500

    def nvmlDeviceGetTemperature(self, handle, sensor):
        return 55


@pytest.mark.parametrize(
    ("visible", "uuid", "found"),
    [
        (None, None, "GPU-aaaa1111"),
        ("1,0", None, "GPU-bbbb2222"),
        ("GPU-bbcc", None, "GPU-bbcc3333"),
        ("1", "bbcc3333", "GPU-bbcc3333"),
        ("MIG-77", None, "MIG-77"),
        ("", None, None),
        ("-1", None, None),
        ("7", None, None),
        ("GPU-ffff", None, None),
    ],
)
def test_the_device_is_the_one_that_the_process_computes_on(visible, uuid, found):
    device = open_device(visible, uuid, FakeNvml())
    assert (None if device is None else device._handle) == found


def test_what_a_device_tells():
    assert open_device(None, None, FakeNvml()).read() == DeviceReading(0.42, 1_234, 250.5, 55.0)
    assert open_device("MIG-77", None, FakeNvml()).read() == DeviceReading(None, 1_234, 250.5, 55.0)


def test_without_a_driver_there_is_no_device():
    assert open_device(None, None, FakeNvml(driver=False)) is None
    open_device()  # whatever this machine has, it does not fail
