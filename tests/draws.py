"""What laws draw from lists of records, in few words: Hypothesis writes down what it drew, and what it drew from."""

from hypothesis import strategies as st

from tests.telemetry_events import T0


def any_of(data, choices):
    """One of the choices, drawn by its number. `sampled_from` is for lists that are short and do not change."""
    return choices[data.draw(st.integers(0, len(choices) - 1))]


class Log(list):
    """Records of a partition; a failing example shows their times and sizes."""

    def __repr__(self):
        return f"<records, ms since T0 and bytes: {[(one.timestamp_ms - T0, len(one.value)) for one in self]}>"
