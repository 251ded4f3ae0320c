"""``circumvent servers check``: what of a list can be used, without using or saving any of it."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from circumvent.api import Privacy
from circumvent.cli import links as pasted
from circumvent.cli.app import CONFIG
from circumvent.cli.options import ENVIRONMENT, json_option, load_config, place_options
from circumvent.discovery.origins import is_origin, parse_origin
from circumvent.errors import LinkError, LocalError, UnsupportedError
from circumvent.links.pasted import number_links
from circumvent.plugins import load_plugins
from circumvent.texts import read_stdin, read_text
from circumvent.tunnels.candidate import parse_candidate


class RefusedLink(msgspec.Struct):
    """A link that cannot be used; lines count from 1."""

    line: int
    reason: str


class CheckedList(msgspec.Struct):
    """What of a list can be used: each of its links is counted in one of the three."""

    accepted: int = 0
    unverified: int = 0
    refused: list[RefusedLink] = []

    def __str__(self) -> str:
        lines = [
            f"{self.accepted} can be used",
            f"{self.unverified} more with --privacy unverified: nothing proves who their server is",
            f"{len(self.refused)} cannot be used",
        ]
        refused = [(f"line {each.line}", each.reason) for each in self.refused]
        reasons = pasted.by_reason(refused, most=len(refused))
        return "\n".join([*lines, *(f"  {reason}" for reason in reasons)])


@click.command(context_settings=ENVIRONMENT)
@click.argument("source", default=pasted.FROM_STDIN, metavar="[FILE|LINK|-]")
@place_options
@json_option
def check(*, source: str, config_file: Path | None, as_json: bool, **options: object) -> None:
    """Tell what of a list can be used, and why the rest cannot.

    Nothing is saved, and nothing is sent. A list has links, one or more a line, with whatever else
    stands there, or is all of that in base64. Without FILE, or with "-", it is read from standard
    input. It is an error (exit code 3) only when nothing in it can be used.
    """
    plugins = load_plugins(load_config(config_file, **options).plugins.allow)
    transports = pasted.transports_of(plugins)
    checked = CheckedList()
    for line, link in number_links(_read(source)):
        try:
            if is_origin(link):
                parse_origin(link)
                privacy = Privacy.ENCRYPTED
            else:
                privacy = parse_candidate(link, transports).privacy
        except (LinkError, UnsupportedError) as error:
            checked.refused.append(RefusedLink(line, str(error)))
        else:
            checked.accepted += privacy is not Privacy.UNVERIFIED
            checked.unverified += privacy is Privacy.UNVERIFIED
    click.echo(msgspec.json.encode(checked) if as_json else str(checked))
    if not checked.accepted + checked.unverified:
        raise SystemExit(CONFIG)


def _read(source: str) -> str:
    if source == pasted.FROM_STDIN:
        return read_stdin()
    if "://" in source:
        return source
    try:
        return read_text(Path(source), "replace")
    except OSError as error:
        raise LocalError(f"the list {source} cannot be read: {error.strerror}") from None
