"""``circumvent init``: keep an invite or a subscription, so that ``run`` finds the servers."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import click
import msgspec

from circumvent.cli.links import FROM_STDIN
from circumvent.cli.options import ENVIRONMENT, json_option, load_config, place_options
from circumvent.discovery.origins import Origin, keep, parse_origin, recall, saved_origins
from circumvent.errors import LocalError
from circumvent.plugins import load_plugins
from circumvent.state.file import Need
from circumvent.state.origins import OriginTable
from circumvent.state.store import Store
from circumvent.texts import read_stdin

HELP = """\
Keep an INVITE (circumvent://invite?...) or a subscription (sub+https://...).

An invite says whose lists of servers to trust and where to ask for them. It is a secret, kept in a
file that only you can read; "-" reads it from standard input. From then on this is enough:

\b
  circumvent init 'circumvent://invite?...'
  circumvent run
\b
  circumvent init --list
  circumvent init --forget ID
"""


@click.command(help=HELP, context_settings=ENVIRONMENT)
@click.argument("invite", required=False, metavar="[INVITE]")
@click.option("--list", "as_list", is_flag=True, help="Show what is kept, without secrets.")
@click.option("--forget", metavar="ID", help="Forget one and all servers that it brought.")
@place_options
@json_option
def init(
    *,
    invite: str | None,
    as_list: bool,
    forget: str | None,
    config_file: Path | None,
    as_json: bool,
    **options: object,
) -> None:
    """Save an origin; the help is ``HELP``."""
    if [invite is not None, as_list, forget is not None].count(True) != 1:
        raise click.UsageError("give an INVITE, or --list, or --forget ID")
    config = load_config(config_file, **options)
    need = Need.READING if as_list else Need.WRITING
    with closing(Store(config.state_file, need=need)) as store:
        if invite is not None:
            shown = [_save(store.origins, read_stdin() if invite == FROM_STDIN else invite)]
            warn_of_sources(shown[0], config.plugins.allow)
        elif forget is not None:
            _forget(store.origins, forget)
            shown = []
        else:
            shown = saved_origins(store.origins)
    if as_json:
        click.echo(msgspec.json.encode([_public(origin) for origin in shown]))
    elif shown:
        click.echo("\n".join(map(_line, shown)))
    elif as_list:
        click.echo("no invite is kept; add one with: circumvent init INVITE")


def warn_of_sources(origin: Origin, allow: tuple[str, ...]) -> None:
    """Warn of the sources of an origin that no channel can read."""
    from circumvent.discovery.sources import usable_sources  # noqa: PLC0415 - asyncio

    _, problems = usable_sources(origin.sources, load_plugins(allow).channels)
    for problem in problems:
        click.echo(f"warning: {problem}", err=True)


def _save(table: OriginTable, text: str) -> Origin:
    origin = replace(recall(table, parse_origin(text)), saved=True)
    keep(table, origin)
    return origin


def _forget(table: OriginTable, origin_id: str) -> None:
    if not table.forget(origin_id):
        raise LocalError(f"not kept: {origin_id}; see: circumvent init --list")


def _public(origin: Origin) -> dict[str, object]:
    bundle = origin.bundle
    return {
        "id": origin.id,
        "kind": "invite" if origin.trust else "subscription",
        "name": origin.name,
        "sources": len(origin.sources),
        "entries": len(bundle.entries) if bundle else 0,
        "version": bundle.version if bundle else 0,
        "expires": bundle.expires if bundle else 0,
    }


def _line(origin: Origin) -> str:
    public = _public(origin)
    name = f" ({origin.name})" if origin.name else ""
    sources, servers = len(origin.sources), public["entries"]
    return (
        f"{public['kind']} {origin.id}{name}: {sources} source{'s' * (sources != 1)},"
        f" {servers} server{'s' * (servers != 1)} known"
    )
