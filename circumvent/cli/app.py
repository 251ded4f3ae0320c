"""The ``circumvent`` command: loads its subcommands when used, turns errors into exit codes."""

from __future__ import annotations

import errno
import importlib
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import click

from circumvent.cli.output import give_up_output, is_of_output, repair_streams
from circumvent.errors import (
    BudgetError,
    CircumventError,
    ConfigError,
    LinkError,
    NoTunnelError,
    UnsupportedError,
)

FAILURE, CONFIG, NO_SERVER, ADDRESS_IN_USE, STOPPED_AT_ONCE = 1, 3, 4, 5, 130

COMMANDS = ("run", "init", "servers", "discover", "status", "why", "bundle", "relay")

HELP = """\
Reach the free internet: several raced tunnels behind one local SOCKS and HTTP port.

\b
Try a link that a friend gave you, and point the browser at SOCKS5 127.0.0.1:1080:
  circumvent run 'ss://...' 'trojan://...'
\b
Or keep an invite: its operator's servers are then found for you:
  circumvent init 'circumvent://invite?...'
  circumvent run
\b
Keep links, so that the next start needs none:
  circumvent servers add - < links.txt
  circumvent run
\b
See what it does, and what went wrong:
  circumvent status
  circumvent why
\b
Test it from a shell:
  curl --proxy socks5h://127.0.0.1:1080 https://example.com/
"""

EPILOG = """\
\b
Exit codes:
    0  done
    1  failure (a check failed, nothing is running, ...)
    2  wrong usage
    3  wrong configuration or link
    4  no usable server
    5  the address is in use, or circumvent is running already
  130  stopped at once by a second Ctrl-C
"""


class LazyGroup(click.Group):
    """Imports the module of a subcommand when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(f"circumvent.cli.{cmd_name}"), cmd_name)
        return command if isinstance(command, click.Command) else None

    def main(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - click's signature
        repair_streams()
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            if not is_of_output(error):
                raise
            _complain(f"the output cannot be written: {error.strerror}")
            give_up_output()
            sys.exit(FAILURE)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except (CircumventError, ExceptionGroup) as error:
            known = next(_known_errors(error), None)
            if known is None:
                raise
            _complain(str(known))
            return ctx.exit(exit_code(known))


def _complain(text: str) -> None:
    with suppress(OSError):  # the exit code tells it too
        click.echo(f"Error: {text}", err=True)


def exit_code(error: BaseException) -> int:
    """The documented exit code of an error."""
    if getattr(error, "errno", None) == errno.EADDRINUSE:
        return ADDRESS_IN_USE
    if isinstance(error, NoTunnelError):
        return NO_SERVER
    if isinstance(error, ConfigError | LinkError | UnsupportedError | BudgetError):
        return CONFIG
    return FAILURE


def _known_errors(error: BaseException) -> Iterator[CircumventError]:
    if isinstance(error, CircumventError):
        yield error
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _known_errors(inner)


@click.group(cls=LazyGroup, help=HELP, epilog=EPILOG)
@click.version_option(package_name="circumvent", prog_name="circumvent")
def main() -> None:
    """Start here; the help is ``HELP``."""
