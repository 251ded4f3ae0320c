"""``circumvent run``: race the servers and open the local port."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

import click

from circumvent.cli import links as pasted
from circumvent.cli import views
from circumvent.cli.options import (
    ENVIRONMENT,
    inbound_options,
    json_option,
    load_config,
    place_options,
    private_option,
)
from circumvent.cli.output import never_wait
from circumvent.cli.running import run_until_signalled
from circumvent.client import Client, Servers
from circumvent.config import Config
from circumvent.plugins import PluginProblem, Plugins, load_plugins
from circumvent.status.events import Warned
from circumvent.tunnels.candidate import classes_of
from circumvent.tunnels.floor import describe_floor

HELP = """\
Race the servers behind LINKs, keep the best tunnels up, serve SOCKS5, SOCKS4a and HTTP.

A LINK is that of a server, an invite (circumvent then finds servers) or a subscription
(https://...), or a file or a text that holds several, also in base64. Without LINKs, those of the
configuration and the saved ones are used.

A LINK holds a secret that other users of this machine can see in the list of processes; "-" reads
links from standard input. What cannot be used is named and left out:

\b
  circumvent run 'ss://...' 'trojan://...'
  circumvent run 'circumvent://invite?...'
  circumvent run - < links.txt
  circumvent run --listen 127.0.0.1:9050 --memory '8 MiB'

Every option can be set in the configuration file, and in the environment: --listen is
CIRCUMVENT_LISTEN, and LINKs are CIRCUMVENT_LINKS. The command line wins over the environment,
which wins over the file.

Ctrl-C stops when open streams have ended (at most 10 s); a second one stops at once.
"""


@click.command(help=HELP, context_settings=ENVIRONMENT)
@click.argument("links", nargs=-1, envvar="CIRCUMVENT_LINKS", metavar="[LINK]...")
@click.option("--listen", metavar="HOST:PORT", help="Local address; by default 127.0.0.1:1080.")
@click.option("--memory", metavar="SIZE", help="Bound of all buffers; by default '16 MiB'.")
@click.option("--tunnels", type=click.IntRange(1), metavar="N", help="Tunnels to keep up (3).")
@click.option(
    "--privacy",
    type=click.Choice(["encrypted", "unverified", "plain", "direct"]),
    help="Use no server that hides less; by default encrypted.",
)
@private_option
@inbound_options
@place_options
@json_option
@click.option("-v", "--verbose", is_flag=True, help="Log what happens inside.")
def run(
    *,
    links: tuple[str, ...],
    config_file: Path | None,
    as_json: bool,
    verbose: bool,
    **options: object,
) -> None:
    """Start; the help is ``HELP``."""
    spool = never_wait()
    logging.basicConfig(level=logging.DEBUG if verbose else logging.WARNING)
    config = load_config(config_file, **options)
    config.inbound()  # refuses to let strangers in, before anything is started
    plugins = load_plugins(config.plugins.allow)
    view = views.choose(spool, as_json=as_json)
    given = pasted.expand(links) or pasted.known_links(config)
    raise SystemExit(asyncio.run(_run(config, plugins, given, view)))


async def _run(
    config: Config, plugins: Plugins, links: Sequence[pasted.PastedLink], view: views.View
) -> int:
    with closing(Client(config, plugins, view.show)) as client:
        parsed = pasted.parse_links(links, client.transports)
        servers = choose_servers(parsed, config, plugins.problems, view)
        return await run_until_signalled(client, servers, config.control_sockets, view)


def choose_servers(
    links: pasted.ParsedLinks, config: Config, problems: Iterable[PluginProblem], view: views.View
) -> Servers:
    """The servers to start from, after all warnings; raises NoTunnelError."""
    servers = links.servers
    chosen = pasted.usable(servers, config.privacy_floor) if servers or not links.origins else ()
    warnings = links.complaints()
    if config.allow_private:
        warnings.append("allow_private: links and lists may lead to this machine's own networks")
    warnings += pasted.warnings(chosen, problems)
    if left_out := describe_floor(classes_of(servers), config.privacy_floor):
        warnings.append(left_out)
    for warning in warnings:
        view.show(Warned(warning))
    return Servers(chosen, links.origins)
