import click
import pytest
from click.testing import CliRunner

from infra.moments import Moment, parse_moment

NOW = 1_800_000_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1h", NOW - 3_600_000),
        ("90s", NOW - 90_000),
        ("250ms", NOW - 250),
        ("2027-01-15T08:00:00Z", NOW),
        ("2027-01-15T08:00:00", NOW),
        ("2027-01-15T10:00:00+02:00", NOW),
        ("2027-01-15", NOW - 8 * 3_600_000),
    ],
)
def test_a_moment_is_so_long_ago_or_an_iso_time(text, expected):
    assert parse_moment(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "1w", "2027-13-01"])
def test_what_is_no_moment_is_refused_with_the_ways_out(text):
    with pytest.raises(ValueError, match="is no moment: write 30m or 1h for so long ago"):
        parse_moment(text, NOW)


def test_as_an_option_it_is_a_usage_error():
    @click.command()
    @click.option("--since", type=Moment())
    def command(since):
        click.echo(type(since).__name__)

    assert CliRunner().invoke(command, ["--since", "5m"]).output == "int\n"
    refused = CliRunner().invoke(command, ["--since", "soon"])
    assert refused.exit_code == 2
    assert "is no moment" in refused.output
