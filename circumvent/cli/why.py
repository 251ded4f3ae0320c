"""``circumvent why``: the last attempts, explained."""

from __future__ import annotations

import errno
import os
import time
from contextlib import closing
from pathlib import Path

import click
import msgspec

from circumvent.cli import text
from circumvent.cli.options import ENVIRONMENT, json_option, load_config, place_options
from circumvent.state.attempts import Attempt
from circumvent.state.file import Need
from circumvent.state.store import Store

HEADER = ("WHEN", "WHAT", "SERVER", "RESULT", "ERRNO", "TOOK", "MEMORY", "WHY")
DEFAULT_LIMIT = 20

MEANING = {
    errno.ECONNREFUSED: "nothing listens on the server's port",
    errno.ECONNRESET: "the connection was cut: by a censor, or by a server that knows no such user",
    errno.ETIMEDOUT: "no answer: the server is down, or its address is blocked",
    errno.EHOSTUNREACH: "no route to the server",
    errno.ENETUNREACH: "this machine has no network of that kind",
    errno.EPIPE: "the server closed the connection early",
}

HELP = """\
Show what was tried last and how it went, newest first.

No secrets and no visited sites are kept, so you can show the output to people who help you.

\b
  circumvent why
  circumvent why --server a1b2c3d4e5 --limit 50
"""


@click.command(help=HELP, context_settings=ENVIRONMENT)
@click.option("--limit", type=click.IntRange(1), default=DEFAULT_LIMIT, show_default=True)
@click.option("--server", metavar="ID", help="Only this server; ids are in: circumvent status.")
@click.option("--failures", is_flag=True, help="Only what did not work.")
@place_options
@json_option
def why(
    *,
    limit: int,
    server: str | None,
    failures: bool,
    config_file: Path | None,
    as_json: bool,
    **options: object,
) -> None:
    """Read the store; the help is ``HELP``."""
    config = load_config(config_file, **options)
    with closing(Store(config.state_file, need=Need.READING)) as store:
        attempts = store.attempts.newest(limit, server, failures=failures)
    if as_json:
        click.echo(msgspec.json.encode([_as_fields(attempt) for attempt in attempts]))
    elif attempts:
        click.echo(text.table(HEADER, map(_row, attempts)))
    else:
        click.echo("nothing was tried yet; start with: circumvent run LINK")


def _as_fields(attempt: Attempt) -> dict[str, object]:
    fields: dict[str, object] = msgspec.to_builtins(attempt)
    return fields | {"errno_name": attempt.errno_name, "why": _explain(attempt)}


def _row(attempt: Attempt) -> tuple[str, ...]:
    return (
        time.strftime("%m-%d %H:%M:%S", time.localtime(attempt.at)),
        attempt.what,
        attempt.server,
        attempt.outcome if attempt.outcome == "ok" else f"{attempt.outcome} at {attempt.stage}",
        attempt.errno_name or "-",
        text.milliseconds(attempt.ms),
        text.size(attempt.peak),
        _explain(attempt),
    )


def _explain(attempt: Attempt) -> str:
    if attempt.errno is None:
        return attempt.detail
    meaning = MEANING.get(attempt.errno) or os.strerror(attempt.errno)
    return f"{meaning} ({attempt.detail})" if attempt.detail else meaning
