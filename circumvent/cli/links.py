"""From pasted links to servers that can be used, or one clear error each."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from circumvent.api.contracts import Privacy, ServerEntry, Transport
from circumvent.config import Config, parse_links
from circumvent.errors import LinkError, NoTunnelError, UnsupportedError
from circumvent.plugins import PluginProblem, Plugins
from circumvent.tunnels.store import Store

FROM_STDIN = "-"
MAX_SCHEME = 16  # longer than any scheme: it is a mispasted secret, not to be repeated


@dataclass(frozen=True, slots=True)
class Server:
    """A parsed link with the transport that speaks it."""

    transport: Transport
    entry: ServerEntry

    @property
    def label(self) -> str:
        """Transport, id and the user's name for it; no secrets."""
        name = f" ({self.entry.name})" if self.entry.name else ""
        return f"{self.entry.transport} {self.entry.id}{name}"


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
    """Links of the configuration and the saved ones."""
    store = Store(config.state_file)
    saved = tuple(server.link for server in store.servers())
    store.close()
    return config.links() + saved


def parse_all(links: Iterable[str], plugins: Plugins) -> tuple[Server, ...]:
    """Parse every link; equal ones count once.

    Raises LinkError that says, for each link that cannot be used, which it is and why.
    """
    servers: dict[str, Server] = {}
    problems: list[str] = []
    for number, link in enumerate(links, start=1):
        try:
            server = _parse(link, plugins.transports)
            servers.setdefault(server.entry.id, server)
        except (LinkError, UnsupportedError) as error:
            problems.append(f"link #{number}: {error}")
    if problems:
        raise LinkError("\n".join(problems), stage="link")
    return tuple(servers.values())


def usable(servers: Iterable[Server], floor: Privacy) -> tuple[Server, ...]:
    """The servers that hide enough; raises NoTunnelError when there is none."""
    servers = tuple(servers)
    if not servers:
        message = "no server is known: give a link, or save one with: circumvent servers add LINK"
        raise NoTunnelError(message, stage="start")
    private = tuple(server for server in servers if privacy(server) >= floor)
    if not private:
        message = (
            f"no server is {floor.name.lower()}, and weaker ones are used only when asked for with"
            f" --privacy {privacy(servers[0]).name.lower()}"
        )
        raise NoTunnelError(message, stage="start")
    return private


def privacy(server: Server) -> Privacy:
    """What a watcher of the connection to this server can see."""
    return server.transport.privacy(server.entry)


def warnings(servers: Iterable[Server], problems: Iterable[PluginProblem]) -> list[str]:
    """What the user gave up by name, and plugins that were left out."""
    return [
        f"{server.label}: {warning}"
        for server in servers
        for warning in server.transport.warnings(server.entry)
    ] + [f"plugin {problem.name} was left out: {problem.reason}" for problem in problems]


def _parse(link: str, transports: Mapping[str, Transport]) -> Server:
    scheme, separator, _ = link.strip().partition("://")
    scheme = scheme.lower()
    if not separator or not scheme.isalnum() or len(scheme) > MAX_SCHEME:
        raise LinkError('is not a link: it must start like "ss://"; quote it in the shell')
    transport = transports.get(scheme)
    if transport is None:
        known = ", ".join(f"{name}://" for name in sorted(transports))
        raise UnsupportedError(f"{scheme}:// is not supported; supported: {known or 'none'}")
    return Server(transport, transport.parse(link))
