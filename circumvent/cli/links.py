"""From pasted links to servers that can be used; what cannot be used stops nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass

from circumvent.api import Privacy, ServerEntry
from circumvent.client import parse_link
from circumvent.config import Config
from circumvent.discovery.origins import is_origin, parse_origin
from circumvent.errors import ConfigError, LinkError, NoTunnelError, UnsupportedError
from circumvent.links.pasted import number_links, split_links, unpack
from circumvent.net.addresses import is_address, is_public
from circumvent.plugins import PluginProblem, Plugins
from circumvent.state.file import Need
from circumvent.state.store import Store
from circumvent.texts import read_stdin
from circumvent.tunnels.candidate import Candidate

FROM_STDIN = "-"
MAX_REASONS = 4  # lines in which to say what was not used, and why
MAX_PLACES = 5  # of links that have the same reason


@dataclass(frozen=True, slots=True)
class Given:
    """A link, and where the user finds it again: ``link #2``, ``line 7``."""

    link: str
    place: str


@dataclass(frozen=True, slots=True)
class Understood:
    """What links are good for: servers, each once; invites and subscriptions; nothing.

    ``refused`` holds the place of each that is good for nothing, and why.
    """

    servers: tuple[Candidate, ...]
    origins: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]
    count: int

    def complaints(self) -> list[str]:
        """A few lines without any of the links; none when all were understood."""
        if not self.refused:
            return []
        many = f"{len(self.refused)} of {self.count} links cannot be used"
        return [many, *_by_reason(self.refused)]


def is_link(word: str) -> bool:
    """Whether the user gave a link (or ``-``) and not a server's id."""
    return word == FROM_STDIN or "://" in word


def expand(links: Iterable[str]) -> tuple[Given, ...]:
    """Put the links on standard input, one a line, in the place of ``-``."""
    given: list[Given] = []
    for number, link in enumerate(links, start=1):
        text = unpack(read_stdin() if link == FROM_STDIN else link)
        if link == FROM_STDIN or "\n" in text:
            given.extend(Given(each, f"line {line}") for line, each in number_links(text))
        else:
            given.extend(Given(each, f"link #{number}") for each in split_links(text))
    return tuple(given)


def known(config: Config) -> tuple[Given, ...]:
    """The known links, numbered."""
    links = enumerate(known_links(config), start=1)
    return tuple(Given(link, f"link #{number}") for number, link in links)


def known_links(config: Config) -> tuple[str, ...]:
    """Links of the configuration and the saved ones, invites included.

    Raises ConfigError when the saved ones cannot be read, if they would be all.
    """
    configured = config.links()
    try:
        with closing(Store(config.state_file, need=Need.READING)) as store:
            saved = tuple(server.link for server in store.servers.all())
            invited = tuple(store.origins.saved_links())
    except ConfigError:
        if not configured:
            raise
        return configured  # who wants to write there will say what is wrong
    return configured + saved + invited


def label(entry: ServerEntry) -> str:
    """Transport, id and the user's name for it; no secrets."""
    return f"{entry.transport} {entry.id}" + (f" ({entry.name})" if entry.name else "")


def understand(
    given: Sequence[Given], plugins: Plugins, *, with_origins: bool = True
) -> Understood:
    """Read every link; raises LinkError, with the reasons, when none can be used."""
    servers: dict[str, Candidate] = {}
    origins: list[str] = []
    refused: list[tuple[str, str]] = []
    for each in given:
        try:
            if is_origin(each.link):
                _check_origin(each.link, wanted=with_origins)
                origins.append(each.link)
            else:
                server = parse_link(each.link, plugins)
                servers.setdefault(server.id, server)
        except (LinkError, UnsupportedError) as error:
            refused.append((each.place, str(error)))
    if refused and not (servers or origins):
        raise LinkError("\n".join(_by_reason(refused)), stage="link")
    return Understood(tuple(servers.values()), tuple(origins), tuple(refused), len(given))


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
    """What the user gave up by name, and plugins that were left out; one line for each warning."""
    given_up: dict[str, list[str]] = {}
    for server in servers:
        entry = server.entry
        for warning in (*server.transport.warnings(entry), *_leads_inside(entry)):
            given_up.setdefault(warning, []).append(label(entry))
    return [f"{_listed(labels)}: {warning}" for warning, labels in given_up.items()] + [
        f"plugin {problem.name} was left out: {problem.reason}" for problem in problems
    ]


def _leads_inside(entry: ServerEntry) -> tuple[str, ...]:
    """A user may mean that, and somebody who sent the link may hope not to be noticed."""
    host = entry.host
    if host == "localhost" or (is_address(host) and not is_public(host)):
        return ("its address is that of this machine or of a private network",)
    return ()


def _check_origin(link: str, *, wanted: bool) -> None:
    if not wanted:
        raise LinkError("is no server's link; keep it with: circumvent init")
    parse_origin(link)


def _by_reason(refused: Sequence[tuple[str, str]]) -> list[str]:
    """One line for each reason, the most frequent first."""
    places: dict[str, list[str]] = {}
    for place, reason in refused:
        places.setdefault(reason, []).append(place)
    ranked = sorted(places.items(), key=lambda item: len(item[1]), reverse=True)
    lines = [f"{_listed(where)}: {reason}" for reason, where in ranked[:MAX_REASONS]]
    if rest := sum(len(where) for _, where in ranked[MAX_REASONS:]):
        lines.append(f"{rest} more, for other reasons")
    return lines


def _listed(places: Sequence[str]) -> str:
    listed = ", ".join(places[:MAX_PLACES])
    rest = len(places) - MAX_PLACES
    return f"{listed} and {rest} more" if rest > 0 else listed
