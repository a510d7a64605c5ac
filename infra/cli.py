"""The `inferwatch` command: finds each application's subcommands through entry points and loads them when asked for."""

from __future__ import annotations

import select
import sys
import traceback
from importlib.metadata import EntryPoint, entry_points

import click

from infra.exit_codes import EXIT_CONFIGURATION, EXIT_INTERNAL, EXIT_INTERRUPTED, EXIT_TRY_AGAIN
from infra.ports import Fatal, RetryLater, TryAgain
from infra.settings import SettingsError

__all__ = ["EXIT_CONFIGURATION", "EXIT_INTERNAL", "EXIT_TRY_AGAIN", "inferwatch", "main"]
GROUP = "inferwatch.commands"


class LazyCommands(click.Group):
    """Subcommands from entry points, imported only when used, so that `--help` and small commands start at once."""

    def _points(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=GROUP)}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, sorted."""
        return sorted(self._points())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one subcommand."""
        point = self._points().get(cmd_name)
        return None if point is None else point.load()


@click.group(cls=LazyCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="inferwatch")
def inferwatch() -> None:
    """Serve models from Kafka, watch them while they serve, be told what went wrong.

    \b
    First steps:
      inferwatch up                 everything on this machine, with live traffic
      inferwatch ask "red shoes"    one request, its answer, where it is stored
      inferwatch query "SELECT count() FROM requests"
    """


def main() -> None:
    """Run the command line. Exit codes: 0 done, 2 usage, 70 internal, 75 try again, 78 configuration."""
    try:
        # Not standalone, click hands back the code of `ctx.exit` instead of ending the process.
        code = inferwatch(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.Abort:
        sys.exit(EXIT_INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except SettingsError as error:
        click.echo(f"inferwatch: wrong setting\n{error}", err=True)
        sys.exit(EXIT_CONFIGURATION)
    except (TryAgain, RetryLater) as error:
        click.echo(f"inferwatch: {error}", err=True)
        sys.exit(EXIT_TRY_AGAIN)
    except Fatal as error:
        click.echo(f"inferwatch: {error}", err=True)
        sys.exit(EXIT_INTERNAL)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _reader_left():
            sys.exit(0)
        traceback.print_exc()
        sys.exit(EXIT_INTERNAL)


def _reader_left() -> bool:
    """Whether whoever read our output is gone, as `head` is when it has enough. Any other broken pipe is a fault."""
    try:
        pipe = sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):  # there is none, or it is no file
        return False
    poll = select.poll()
    poll.register(pipe, 0)  # errors are told without being asked for
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


if __name__ == "__main__":
    main()
