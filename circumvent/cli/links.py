"""From pasted links to servers that can be used, or one clear error each."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import closing

from circumvent.api.contracts import Privacy, ServerEntry
from circumvent.client import parse_link
from circumvent.config import Config, parse_links
from circumvent.discovery.origins import is_origin, parse_origin
from circumvent.discovery.shelf import Shelf
from circumvent.errors import ConfigError, LinkError, NoTunnelError, UnsupportedError
from circumvent.plugins import PluginProblem, Plugins
from circumvent.tunnels.database import Need
from circumvent.tunnels.live import Candidate
from circumvent.tunnels.store import Store

FROM_STDIN = "-"


def is_link(word: str) -> bool:
    """Whether the user gave a link (or ``-``) and not a server's id."""
    return word == FROM_STDIN or "://" in word


def expand(links: Iterable[str]) -> tuple[str, ...]:
    """Put the links on standard input, one a line, in the place of ``-``."""
    given: list[str] = []
    for link in links:
        given.extend(parse_links(sys.stdin.read()) if link == FROM_STDIN else (link,))
    return tuple(given)


def known_links(config: Config) -> tuple[str, ...]:
    """Links of the configuration and the saved ones, invites included.

    Raises ConfigError when the saved ones cannot be read, if they would be all.
    """
    configured = config.links()
    try:
        with closing(Store(config.state_file, need=Need.READING)) as store:
            saved = tuple(server.link for server in store.servers())
            invited = tuple(origin.link for origin in Shelf(store).saved())
    except ConfigError:
        if not configured:
            raise
        return configured  # who wants to write there will say what is wrong
    return configured + saved + invited


def label(entry: ServerEntry) -> str:
    """Transport, id and the user's name for it; no secrets."""
    return f"{entry.transport} {entry.id}" + (f" ({entry.name})" if entry.name else "")


def split_origins(links: Iterable[str]) -> tuple[list[str], list[str]]:
    """Links of servers, and those of invites and subscriptions; raises LinkError."""
    servers: list[str] = []
    origins: list[str] = []
    for link in links:
        (origins if is_origin(link) else servers).append(link)
    for origin in origins:
        parse_origin(origin)
    return servers, origins


def parse_all(links: Iterable[str], plugins: Plugins) -> tuple[Candidate, ...]:
    """Parse every link; equal ones count once.

    Raises LinkError that says, for each link that cannot be used, which it is and why.
    """
    servers: dict[str, Candidate] = {}
    problems: list[str] = []
    for number, link in enumerate(links, start=1):
        try:
            server = parse_link(link, plugins)
            servers.setdefault(server.id, server)
        except (LinkError, UnsupportedError) as error:
            problems.append(f"link #{number}: {error}")
    if problems:
        raise LinkError("\n".join(problems), stage="link")
    return tuple(servers.values())


def usable(servers: Iterable[Candidate], floor: Privacy) -> tuple[Candidate, ...]:
    """The servers that hide enough; raises NoTunnelError when there is none."""
    servers = tuple(servers)
    if not servers:
        message = (
            "no server is known: give a link or an invite, or save one with: circumvent servers"
            " add LINK, or circumvent init INVITE"
        )
        raise NoTunnelError(message, stage="start")
    private = tuple(server for server in servers if privacy(server) >= floor)
    if not private:
        message = (
            f"no server is {floor.name.lower()}, and weaker ones are used only when asked for with"
            f" --privacy {privacy(servers[0]).name.lower()}"
        )
        raise NoTunnelError(message, stage="start")
    return private


def privacy(server: Candidate) -> Privacy:
    """What a watcher of the connection to this server can see."""
    return server.transport.privacy(server.entry)


def warnings(servers: Iterable[Candidate], problems: Iterable[PluginProblem]) -> list[str]:
    """What the user gave up by name, and plugins that were left out."""
    return [
        f"{label(server.entry)}: {warning}"
        for server in servers
        for warning in server.transport.warnings(server.entry)
    ] + [f"plugin {problem.name} was left out: {problem.reason}" for problem in problems]
