"""Resolves the names that users visit, by the relay's nameservers, and keeps answers for their TTL.

The system's resolver is not used: it blocks a thread for each name that nobody answers for, and it
accepts odd spellings of loopback addresses. ``dnspython`` is the codec (RFC 1035). Each query has a
socket, and so a port, of its own.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import OrderedDict, defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from circumvent.api import Datagrams
from circumvent.errors import CircumventError, ConfigError, DestinationError, LinkError, Reason
from circumvent.net import udp
from circumvent.wire.address import Destination, encode_name
from circumvent.wire.host_port import parse_address

if TYPE_CHECKING:
    from dns.message import Message

DNS_PORT = 53
MAX_NAMES = 4096  # kept answers; 2 MB
SHORTEST, LONGEST = 10, 600  # seconds: the bounds of an answer's TTL
NEGATIVE = 15.0  # seconds that the absence of a name is kept
TRIES = (1.0, 2.0, 3.0)  # seconds to wait in each try; nameservers take turns
MAX_QUERIES = 256  # at a time, each with a socket for A and one for AAAA
USER_SHARE = 4  # one part in so many is for one user, so that silent names delay no other user
TURN_SECONDS = 2.0  # to wait for a turn; a browser prefers an early error
_PAYLOAD = 1232  # RFC 9715: fits every path unfragmented, and 40 addresses fit it
_LOOPBACK = ("127.0.0.1", "::1")

Answer = tuple[float, Sequence[str]]  # (expiry, addresses); no addresses: there is no such name


@dataclass(slots=True)
class _Query:
    """A query under way; it goes on while anybody waits for its answer."""

    task: asyncio.Task[Answer]
    waiting: int = 0


class NameResolver:
    """Asks ``nameservers``; one query at a time for each name and user.

    Users share no answers: a user could tell by a faster answer what another user visits.
    """

    def __init__(
        self, nameservers: Sequence[Destination], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._nameservers = nameservers
        self._now = now
        self._kept: OrderedDict[tuple[str, str], Answer] = OrderedDict()
        self._queries: dict[tuple[str, str], _Query] = {}
        self._all_turns = asyncio.Semaphore(MAX_QUERIES)
        self._user_turns: defaultdict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(MAX_QUERIES // USER_SHARE)
        )

    async def resolve(self, name: str, user: str) -> Sequence[str]:
        """IP addresses of ``name``, for ``user``; raises DestinationError."""
        name = _normal(name)
        if name == "localhost" or name.endswith(".localhost"):  # RFC 6761 §6.3
            return _LOOPBACK
        until, addresses = self._kept.get((user, name), (0.0, ()))
        if until <= self._now():
            _, addresses = await self._join_query(user, name)
        if not addresses:
            raise DestinationError(Reason.HOST_UNREACHABLE)
        return addresses

    async def _join_query(self, user: str, name: str) -> Answer:
        """Wait for a query that others may wait for too; it ends when the last of them gives up."""
        query = self._queries.get((user, name))
        if query is None:
            task = asyncio.ensure_future(self._ask(user, name))
            query = self._queries[user, name] = _Query(task)
        query.waiting += 1
        try:
            return await asyncio.shield(query.task)
        finally:
            query.waiting -= 1
            if not query.waiting:
                del self._queries[user, name]
                query.task.cancel()

    def _keep(self, user: str, name: str, answer: Answer) -> None:
        self._kept[user, name] = answer
        self._kept.move_to_end((user, name))
        if len(self._kept) > MAX_NAMES:
            self._kept.popitem(last=False)

    async def _ask(self, user: str, name: str) -> Answer:
        async with self._turn(user):
            for number, seconds in enumerate(TRIES):
                nameserver = self._nameservers[number % len(self._nameservers)]
                kinds = [self._ask_one(nameserver, name, kind, seconds) for kind in ("A", "AAAA")]
                found = [part for part in await asyncio.gather(*kinds) if part is not None]
                if found:
                    answer = _joined(found, self._now())
                    self._keep(user, name, answer)
                    return answer
        raise DestinationError(Reason.TIMED_OUT)

    @asynccontextmanager
    async def _turn(self, user: str) -> AsyncIterator[None]:
        """Wait for a turn among the user's own queries, then among all queries."""
        async with AsyncExitStack() as turns:
            try:
                async with asyncio.timeout(TURN_SECONDS):
                    await turns.enter_async_context(self._user_turns[user])
                    await turns.enter_async_context(self._all_turns)
            except TimeoutError:
                raise DestinationError(Reason.TIMED_OUT) from None
            yield

    async def _ask_one(
        self, nameserver: Destination, name: str, kind: str, seconds: float
    ) -> Answer | None:
        """(seconds to keep it, addresses); None when no answer came or it was a refusal."""
        import dns.exception  # noqa: PLC0415 - 14 MB, on the relay only
        import dns.message  # noqa: PLC0415

        try:
            query = dns.message.make_query(name, kind, use_edns=0, payload=_PAYLOAD)
            with udp.connect(nameserver.host, nameserver.port) as endpoint:
                endpoint.send(query.to_wire())
                async with asyncio.timeout(seconds):
                    return _read(await _matching(query, endpoint, seconds))
        except (CircumventError, TimeoutError, dns.exception.DNSException):
            return None


async def _matching(query: Message, endpoint: Datagrams, seconds: float) -> Message:
    """The answer to ``query``; forged and broken answers are ignored."""
    import dns.exception  # noqa: PLC0415
    import dns.message  # noqa: PLC0415

    while True:
        data = await endpoint.receive(seconds)
        try:
            answer = dns.message.from_wire(data, ignore_trailing=True)
        except (dns.exception.DNSException, ValueError):
            continue
        if query.is_response(answer):
            return answer


def _joined(found: Sequence[Answer], now: float) -> Answer:
    """IPv4 and IPv6 addresses together, kept for the shorter TTL of those that exist."""
    given = [part for part in found if part[1]] or found
    return now + min(ttl for ttl, _ in given), [each for part in given for each in part[1]]


def _read(answer: Message) -> Answer | None:
    import dns.message  # noqa: PLC0415
    import dns.rcode  # noqa: PLC0415

    if answer.rcode() == dns.rcode.NXDOMAIN:
        return NEGATIVE, ()
    if answer.rcode() != dns.rcode.NOERROR or not isinstance(answer, dns.message.QueryMessage):
        return None
    chain = answer.resolve_chaining()
    if chain.answer is None:
        return NEGATIVE, ()
    ttl = min(max(chain.minimum_ttl, SHORTEST), LONGEST)
    return ttl, [record.address for record in chain.answer]


def _normal(name: str) -> str:
    """``name`` in lower case and ASCII, without a last dot; raises DestinationError."""
    try:
        return encode_name(name).decode().lower().rstrip(".")
    except ValueError:
        raise DestinationError(Reason.HOST_UNREACHABLE) from None


def parse_nameservers(texts: Sequence[str]) -> tuple[Destination, ...]:
    """Parse ``ADDRESS`` or ``ADDRESS:PORT``; without any, use the system's nameservers.

    Raises ConfigError.
    """
    return tuple(map(_parse_nameserver, texts)) or _system_nameservers()


def _parse_nameserver(text: str) -> Destination:
    try:
        return Destination(str(ipaddress.ip_address(text)), DNS_PORT)
    except ValueError:
        pass
    try:
        host, port = parse_address(text)
        return Destination(str(ipaddress.ip_address(host)), port)
    except (LinkError, ValueError):
        message = f"egress.nameservers: {text!r} is not an IP address with or without a port"
        raise ConfigError(message, stage="config") from None


def _system_nameservers(file: Path = Path("/etc/resolv.conf")) -> tuple[Destination, ...]:
    """The nameservers of resolv.conf(5), which falls back to this machine too."""
    try:
        lines = [line.split() for line in file.read_text(errors="replace").splitlines()]
    except OSError:
        lines = []
    named = [line[1] for line in lines if line[:1] == ["nameserver"] and len(line) > 1]
    return tuple(Destination(address, DNS_PORT) for address in named or ["127.0.0.1"])
