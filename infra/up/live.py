"""Where a run is shown: a live picture in a terminal, else the places once and a plain line every few seconds."""

from __future__ import annotations

import sys
from typing import Protocol, TextIO

from rich.console import Console
from rich.live import Live

from infra.up.picture import Picture
from infra.up.status_line import status_line
from infra.up.view import View

LINE_EVERY_SECONDS = 5.0
REDRAWS_PER_SECOND = 2


class Display(Protocol):
    """Where a run is shown. Used by one thread."""

    def open(self) -> None:
        """Begin to show."""

    def say(self, text: str) -> None:
        """One sentence on something that just happened."""

    def show(self, view: View) -> None:
        """The newest picture. Called often; returns at once."""

    def close(self) -> None:
        """Leave the terminal as it was."""


def display_for(stream: TextIO) -> Display:
    """The live picture for a terminal, plain lines for anything else."""
    return LiveDisplay(stream) if stream.isatty() else LineDisplay(stream)


class LineDisplay:
    """Plain lines."""

    def __init__(self, stream: TextIO = sys.stderr) -> None:
        self._stream = stream
        self._next_at = 0.0
        self._said_where = False

    def open(self) -> None:
        """See `Display.open`."""

    def say(self, text: str) -> None:
        """See `Display.say`."""
        self._write(f"up: {text}")

    def show(self, view: View) -> None:
        """See `Display.show`."""
        if not self._said_where:
            self._said_where = True
            for name, place in view.where:
                self._write(f"up: {name:<10} {place}")
        if view.uptime_seconds >= self._next_at:
            self._next_at = view.uptime_seconds + LINE_EVERY_SECONDS
            self._write(status_line(view))

    def close(self) -> None:
        """See `Display.close`."""

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            pass  # whoever read it is gone; the run goes on


class LiveDisplay:
    """A picture of the run, redrawn in place."""

    def __init__(self, stream: TextIO = sys.stderr) -> None:
        self._console = Console(file=stream)
        self._live = Live(
            console=self._console,
            refresh_per_second=REDRAWS_PER_SECOND,
            screen=self._console.is_terminal,
            vertical_overflow="crop",
        )

    def open(self) -> None:
        """See `Display.open`."""
        self._live.start()

    def say(self, text: str) -> None:
        """Shown with the next picture, among its events."""

    def show(self, view: View) -> None:
        """See `Display.show`."""
        self._live.update(Picture(view))

    def close(self) -> None:
        """See `Display.close`."""
        self._live.stop()
