"""``circumvent run``: race the servers and open the local port."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import click
import msgspec

from circumvent.cli import links as pasted
from circumvent.cli import views
from circumvent.cli.options import (
    ENVIRONMENT,
    door_options,
    json_option,
    load_config,
    place_options,
    private_option,
)
from circumvent.cli.output import never_wait
from circumvent.cli.running import run_until_signalled
from circumvent.config import Config
from circumvent.plugins import Plugins, load_plugins
from circumvent.status.events import Warned

HELP = """\
Race the servers behind LINKs, keep the best tunnels up, serve SOCKS5, SOCKS4a and HTTP.

A LINK is that of a server, an invite (servers are then found by themselves) or a subscription
(sub+https://...). Without LINKs, those of the configuration and the saved ones are used.

A LINK holds a secret that other users of this machine can see in the list of processes; "-" reads
links from standard input, one a line; lines that cannot be used are named, and left out:

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
    type=click.Choice(["encrypted", "plain", "direct"]),
    help="Use no server that hides less; by default encrypted.",
)
@private_option
@door_options
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
    config.door()  # refuses what would let strangers in, before anything is started
    plugins = load_plugins(config.plugins.allow)
    view = views.choose(spool, as_json=as_json)
    ready = prepare(config, plugins, pasted.expand(links), view)
    code = asyncio.run(run_until_signalled(ready, plugins, view))
    raise SystemExit(code)


def prepare(
    config: Config, plugins: Plugins, given: tuple[pasted.Given, ...], view: views.View
) -> Config:
    """The configuration with exactly the servers to use; raises LinkError, NoTunnelError."""
    links = pasted.understand(given or pasted.known(config), plugins)
    servers = links.servers
    for complaint in links.complaints():
        view.show(Warned(complaint))
    chosen = pasted.usable(servers, config.privacy_floor) if servers or not links.origins else ()
    if config.allow_private:
        view.show(Warned("allow_private: links and lists may lead to this machine's own networks"))
    for warning in pasted.warnings(chosen, plugins.problems):
        view.show(Warned(warning))
    if left_out := len(servers) - len(chosen):
        view.show(Warned(f"{left_out} servers hide less than --privacy asks for and are not used"))
    return msgspec.structs.replace(
        config,
        servers=(*(server.entry.link for server in chosen), *links.origins),
        servers_file="",
    )
