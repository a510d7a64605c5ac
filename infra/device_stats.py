"""How the process and its device are doing, about once a second: never an error, never a wait for who asks."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import psutil
from pydantic import ValidationError

from infra import metrics
from infra.ports import Clock
from schemas.telemetry import ProcessSample

LOG = logging.getLogger(__name__)
SAMPLE_SECONDS = 1.0
STALE_SECONDS = 5.0
"""A reading of the device that is older is not known: its driver hangs."""


@dataclass(frozen=True, slots=True)
class DeviceReading:
    """What a device told. None: it does not tell."""

    utilisation: float | None = None
    memory_bytes: int | None = None
    power_watts: float | None = None
    temperature_celsius: float | None = None


class Device(Protocol):
    """Something that computes. Asked on a thread of its own."""

    def read(self) -> DeviceReading:
        """How it is doing now. May block for as long as a driver hangs; may raise anything."""


class Usage(Protocol):
    """What the process uses. Quick."""

    def cpu_seconds(self) -> float:
        """CPU time used since its start, all threads."""

    def memory_bytes(self) -> int:
        """Resident memory."""


class OwnUsage:
    """The `Usage` of this process."""

    def __init__(self) -> None:
        self._process = psutil.Process()

    def cpu_seconds(self) -> float:
        """See `Usage.cpu_seconds`."""
        times = os.times()  # psutil reads and parses a file for the same
        return times.user + times.system

    def memory_bytes(self) -> int:
        """See `Usage.memory_bytes`."""
        return int(self._process.memory_info().rss)


class DeviceWatch:
    """Reads a device about once a second on a thread of its own: a driver that hangs holds up nobody else."""

    def __init__(self, open_device: Callable[[], Device | None], clock: Clock) -> None:
        """`open_device` is called on that thread too; None: there is none, and the thread ends."""
        self._open_device, self._clock = open_device, clock
        self._latest: tuple[float, DeviceReading] | None = None
        self._failing = False

    def start(self, stop: threading.Event) -> None:
        """Read until `stop` is set."""
        threading.Thread(target=self._run, args=(stop,), name="device-stats", daemon=True).start()

    def look(self, device: Device) -> None:
        """Read once. Never raises."""
        try:
            reading = device.read()
        except Exception as error:  # whatever the driver does: it only tells, it must not harm
            if not self._failing:
                LOG.warning("the device tells nothing: %s", error)
            self._failing = True
            return
        self._failing = False
        self._latest = self._clock.monotonic(), reading

    def latest(self) -> DeviceReading:
        """The last reading; unknown when it is stale. Does not block."""
        if self._latest is None or self._clock.monotonic() - self._latest[0] > STALE_SECONDS:
            return DeviceReading()
        return self._latest[1]

    def _run(self, stop: threading.Event) -> None:
        device = self._open_device()
        if device is None:
            return
        self.look(device)
        while not stop.wait(SAMPLE_SECONDS):
            self.look(device)


class ProcessSampler:
    """Makes the samples that telemetry carries, and sets the gauges. Used by one thread, as often as it likes."""

    def __init__(
        self,
        usage: Usage,
        clock: Clock,
        *,
        device: Callable[[], DeviceReading] = DeviceReading,
        publish_ms: Callable[[], float | None] = lambda: None,
    ) -> None:
        """`device` is `DeviceWatch.latest`; `publish_ms` gives the mean delivery time since it was last asked."""
        self._usage, self._clock, self._device, self._publish_ms = usage, clock, device, publish_ms
        self._sample: ProcessSample | None = None
        self._cpu: float | None = None
        self._at = self._due = clock.monotonic()

    def sample(self) -> ProcessSample | None:
        """The newest sample, not older than about a second; None in the first second. Mostly it only
        looks at the clock."""
        now = self._clock.monotonic()
        if now >= self._due:
            self._due = now + SAMPLE_SECONDS
            try:
                self._sample = self._new_sample(now)
            except (psutil.Error, OSError, ValidationError) as error:
                LOG.debug("no sample of the process: %s", error)
                self._sample = None
        return self._sample

    def _new_sample(self, now: float) -> ProcessSample | None:
        cpu, memory = self._usage.cpu_seconds(), self._usage.memory_bytes()
        before, since = self._cpu, self._at
        self._cpu, self._at = cpu, now
        reading, publish_ms = self._device(), self._publish_ms()
        metrics.PROCESS_MEMORY_BYTES.set(memory)
        metrics.DEVICE_UTILISATION.set(reading.utilisation)
        metrics.DEVICE_MEMORY_BYTES.set(reading.memory_bytes)
        metrics.DEVICE_POWER_WATTS.set(reading.power_watts)
        metrics.DEVICE_TEMPERATURE.set(reading.temperature_celsius)
        if before is None:
            return None
        share = max(0.0, cpu - before) / max(1e-9, now - since)
        metrics.PROCESS_CPU_RATIO.set(share)
        return ProcessSample(
            process_cpu_share=round(share, 4),
            process_memory_bytes=memory,
            publish_ms=None if publish_ms is None else round(publish_ms, 3),
            device_utilisation=reading.utilisation,
            device_memory_bytes=reading.memory_bytes,
            power_watts=reading.power_watts,
            temperature_celsius=reading.temperature_celsius,
        )
