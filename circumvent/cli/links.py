"""From pasted links to servers and origins; a link that cannot be used stops nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import click

from circumvent.api import Privacy, ServerEntry, Transport
from circumvent.config import Config
from circumvent.discovery.origins import Origin, as_subscription, is_origin, parse_origin
from circumvent.errors import (
    ConfigError,
    LinkError,
    LocalError,
    NoTunnelError,
    UnsupportedError,
)
from circumvent.links.pasted import unpack
from circumvent.net.addresses import is_address, is_public
from circumvent.plugins import PluginProblem, Plugins
from circumvent.state.file import Need
from circumvent.state.store import Store
from circumvent.texts import read_stdin, read_text
from circumvent.tunnels.candidate import Candidate, classes_of, distinct, parse_candidate
from circumvent.tunnels.floor import describe_floor
from circumvent.tunnels.relay_transport import RelayTransport

FROM_STDIN = "-"
MAX_REASONS = 4  # lines that say which links are not used, and why
MAX_PLACES = 5  # of links that have the same reason


@dataclass(frozen=True, slots=True)
class PastedLink:
    """The text of a link, and where the user finds it again: ``link #2``, ``line 7``."""

    text: str
    place: str


@dataclass(frozen=True, slots=True)
class ParsedLinks:
    """What links were parsed to: servers, each once, and origins.

    ``refused`` holds the place of each link that cannot be used, and why.
    """

    servers: tuple[Candidate, ...]
    origins: tuple[Origin, ...]
    refused: tuple[tuple[str, str], ...]
    count: int

    def complaints(self) -> list[str]:
        """One line without any of the links; none when all links can be used."""
        if not self.refused:
            return []
        reasons = "; ".join(by_reason(self.refused))
        return [f"{len(self.refused)} of {self.count} links cannot be used: {reasons}"]


def is_link(word: str) -> bool:
    """Whether the user gave links in some form (or ``-``) and not a server's id."""
    return word == FROM_STDIN or "://" in unpack(word) or _is_file(word)


def transports_of(plugins: Plugins) -> Mapping[str, Transport]:
    """All transports by link scheme, for commands that run no client."""
    return plugins.with_relays(RelayTransport(plugins.carriers))


def expand(words: Iterable[str]) -> tuple[PastedLink, ...]:
    """The links of the command line, numbered; raises LinkError, LocalError.

    A word is a link, a text with links in it, base64 of that, the name of a file that holds such,
    or ``-`` for standard input. What is neither of them is taken for a link, and refused later.
    """
    pasted: list[PastedLink] = []
    for number, word in enumerate(words, start=1):
        is_alone, found = _links_of(word)
        for line, each in found:
            pasted.append(PastedLink(each, f"link #{number}" if is_alone else f"line {line}"))
    return tuple(pasted)


def number_words(words: Sequence[str]) -> Iterator[tuple[int, str]]:
    """As ``expand``, with the number of the line in its file, or of the word itself."""
    for number, word in enumerate(words, start=1):
        is_alone, found = _links_of(word)
        yield from ((number if is_alone else line, each) for line, each in found)


def _links_of(word: str) -> tuple[bool, list[tuple[int, str]]]:
    """Whether the word is one line, and its links with the numbers of their lines."""
    from circumvent.links.list_reader import number_links  # noqa: PLC0415 - not of saved links

    text, what = word, "the text"
    if word == FROM_STDIN:
        text, what = read_stdin(), "standard input"
    elif "://" not in word and unpack(word) == word and _is_file(word):
        text, what = _read_file(word), f"the file {word}"
    is_alone = text is word and "\n" not in unpack(word).strip()
    found = list(number_links(text)) or ([(1, word)] if is_alone else [])
    if all(as_subscription(link) != link for _, link in found):
        found = [(line, as_subscription(link)) for line, link in found]
    if not is_alone:
        click.echo(f"{what}: {len(found)} link{'s' * (len(found) != 1)}", err=True)
    return is_alone, found


def _is_file(word: str) -> bool:
    try:
        return Path(word).is_file()
    except OSError:  # too long for a name
        return False


def _read_file(name: str) -> str:
    try:
        return read_text(Path(name), "replace")
    except OSError as error:
        raise LocalError(f"the list {name} cannot be read: {error.strerror}") from None


def known_links(config: Config) -> tuple[PastedLink, ...]:
    """Links of the configuration and the saved ones, invites included, numbered.

    Raises ConfigError when the saved ones cannot be read, if there are no others.
    """
    links = tuple(map(as_subscription, config.links()))
    try:
        with closing(Store(config.state_file, need=Need.READING)) as store:
            links += tuple(server.link for server in store.servers.all())
            links += tuple(store.origins.saved_links())
    except ConfigError:
        if not links:
            raise
        # Commands that write to the state file say what is wrong with it.
    return tuple(PastedLink(link, f"link #{number}") for number, link in enumerate(links, start=1))


def parse_links(pasted: Sequence[PastedLink], transports: Mapping[str, Transport]) -> ParsedLinks:
    """Parse every link; raises LinkError, with the reasons, when none can be used."""
    servers: list[Candidate] = []
    origins: list[Origin] = []
    refused: list[tuple[str, str]] = []
    for link in pasted:
        try:
            parsed = parse_link(link.text, transports)
        except (LinkError, UnsupportedError) as error:
            refused.append((link.place, str(error)))
        else:
            if isinstance(parsed, Origin):
                origins.append(parsed)
            else:
                servers.append(parsed)
    if refused and not (servers or origins):
        raise LinkError("\n".join(by_reason(refused)), stage="link")
    return ParsedLinks(tuple(distinct(servers)), tuple(origins), tuple(refused), len(pasted))


def parse_link(text: str, transports: Mapping[str, Transport]) -> Candidate | Origin:
    """The server or the origin behind a pasted link; raises LinkError, UnsupportedError."""
    if is_origin(text):
        return parse_origin(text)
    if as_subscription(text) != text:
        raise LinkError("is the address of a page; of a subscription, give nothing else with it")
    return parse_candidate(text, transports)


def usable(servers: Sequence[Candidate], floor: Privacy) -> tuple[Candidate, ...]:
    """The servers that hide enough; raises NoTunnelError when there is none."""
    if not servers:
        raise NoTunnelError(
            "no server is known: give a link or an invite, or save one with: circumvent servers"
            " add LINK, or circumvent init INVITE",
            stage="start",
        )
    private = tuple(server for server in servers if server.privacy >= floor)
    if not private:
        raise NoTunnelError(describe_floor(classes_of(servers), floor), stage="start")
    return private


def label(entry: ServerEntry) -> str:
    """Transport, id and the user's name for it; no secrets."""
    return f"{entry.transport} {entry.id}" + (f" ({entry.name})" if entry.name else "")


def warnings(servers: Iterable[Candidate], problems: Iterable[PluginProblem]) -> list[str]:
    """What each link gives up by name, and plugins that were left out; one line a warning."""
    given_up: dict[str, list[str]] = {}
    for server in servers:
        entry = server.entry
        for warning in (*server.transport.warnings(entry), *_warn_of_address(entry)):
            given_up.setdefault(warning, []).append(label(entry))
    return [f"{_listed(labels)}: {warning}" for warning, labels in given_up.items()] + [
        f"plugin {problem.name} was left out: {problem.reason}" for problem in problems
    ]


def _warn_of_address(entry: ServerEntry) -> tuple[str, ...]:
    """Warn of private addresses: the link may come from a stranger who wants a service here."""
    host = entry.host
    if host == "localhost" or (is_address(host) and not is_public(host)):
        return ("its address is that of this machine or of a private network",)
    return ()


def by_reason(refused: Sequence[tuple[str, str]], most: int = MAX_REASONS) -> list[str]:
    """One line for each reason, with the places; the ``most`` frequent, and how many there are."""
    places: dict[str, list[str]] = {}
    for place, reason in refused:
        places.setdefault(reason, []).append(place)
    ranked = sorted(places.items(), key=lambda item: len(item[1]), reverse=True)
    lines = [f"{_listed(where)}: {reason}" for reason, where in ranked[:most]]
    if rest := sum(len(where) for _, where in ranked[most:]):
        lines.append(f"{rest} more, for other reasons")
    return lines


def _listed(places: Sequence[str]) -> str:
    listed = ", ".join(places[:MAX_PLACES])
    rest = len(places) - MAX_PLACES
    return f"{listed} and {rest} more" if rest > 0 else listed
