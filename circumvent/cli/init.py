"""``circumvent init``: keep an invite or a subscription, so that ``run`` finds the servers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import click
import msgspec

from circumvent.api import ServerEntry
from circumvent.cli import links as pasted
from circumvent.cli.options import ENVIRONMENT, json_option, load_config, place_options
from circumvent.config import Config
from circumvent.discovery.origins import Origin, keep, recall, saved_origins
from circumvent.errors import LinkError, LocalError
from circumvent.plugins import load_plugins
from circumvent.state.file import Need
from circumvent.state.origins import OriginTable
from circumvent.state.servers import SavedServer
from circumvent.state.store import Store

HELP = """\
Keep an INVITE (circumvent://invite?...) or the address of a subscription (https://...).

An invite says whose lists of servers to trust and where to ask for them. It is a secret, kept in a
file that only you can read; "-" reads it from standard input. A file or a text with several of them
will do, and servers in it are saved as well. From then on this is enough:

\b
  circumvent init 'circumvent://invite?...'
  circumvent init 'https://provider.example/list'
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
    servers: Sequence[ServerEntry] = ()
    with closing(Store(config.state_file, need=need)) as store:
        if invite is not None:
            shown, servers = _keep(store, invite, config)
        elif forget is not None:
            _forget(store.origins, forget)
            shown = []
        else:
            shown = saved_origins(store.origins)
    if as_json:
        click.echo(msgspec.json.encode([_public(origin) for origin in shown]))
    elif shown or servers:
        saved = (f"saved {pasted.label(server)}" for server in servers)
        click.echo("\n".join((*map(_line, shown), *saved)))
    elif as_list:
        click.echo("no invite is kept; add one with: circumvent init INVITE")


def warn_of_sources(origin: Origin, allow: tuple[str, ...]) -> None:
    """Warn of the sources of an origin that no channel can read."""
    from circumvent.discovery.sources import usable_sources  # noqa: PLC0415 - asyncio

    _, problems = usable_sources(origin.sources, load_plugins(allow).channels)
    for problem in problems:
        click.echo(f"warning: {problem}", err=True)


def _keep(store: Store, text: str, config: Config) -> tuple[list[Origin], list[ServerEntry]]:
    """Keep all origins in ``text``, and the servers too, as ``servers add`` does."""
    transports = pasted.transports_of(load_plugins(config.plugins.allow))
    parsed = pasted.parse_links(pasted.expand([text]), transports)
    for complaint in parsed.complaints():
        click.echo(f"warning: {complaint}", err=True)
    return save(store, parsed, config)


def save(
    store: Store, parsed: pasted.ParsedLinks, config: Config
) -> tuple[list[Origin], list[ServerEntry]]:
    """Save what was parsed for every start; raises LinkError when that is nothing."""
    if not (parsed.origins or parsed.servers):
        raise LinkError("no link was given: put each on a line of its own", stage="link")
    entries = [server.entry for server in parsed.servers]
    store.servers.add(SavedServer(e.id, e.transport, e.name, e.link) for e in entries)
    origins = [replace(recall(store.origins, each), saved=True) for each in parsed.origins]
    for origin in origins:
        keep(store.origins, origin)
        warn_of_sources(origin, config.plugins.allow)
    return origins, entries


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
        "entries": bundle.count if bundle else 0,
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
