"""Names that users visit: asked of the relay's nameservers, kept as long as their owners say.

Not by the system's resolver: that blocks a thread for each name that nobody answers for, and
reads odd spellings of loopback addresses as such. ``dnspython`` is the codec (RFC 1035), the
questions travel over our own sockets, each from a port of its own.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from circumvent.api.datagrams import Datagrams
from circumvent.errors import CircumventError, ConfigError, DestinationError, LinkError, Reason
from circumvent.net import udp
from circumvent.wire.address import Destination, encode_name
from circumvent.wire.links import parse_address

if TYPE_CHECKING:
    from dns.message import Message

DNS_PORT = 53
MAX_NAMES = 4096  # kept answers; 2 MB
SHORTEST, LONGEST = 10, 600  # seconds that an answer is kept, whatever its owner says
NEGATIVE = 15.0  # seconds: who asks again and again for nothing is answered by us
TRIES = (1.0, 2.0, 3.0)  # seconds for each; nameservers take turns
MAX_QUESTIONS = 256  # at a time, each with a socket for A and one for AAAA
_PAYLOAD = 1232  # RFC 9715: fits every path unfragmented, and 40 addresses fit it
_LOOPBACK = ("127.0.0.1", "::1")

Answer = tuple[float, Sequence[str]]  # until when it is good; nothing when there is no such name


class NameResolver:
    """Asks ``nameservers``; one question at a time for each name."""

    def __init__(
        self, nameservers: Sequence[Destination], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._nameservers = nameservers
        self._now = now
        self._kept: OrderedDict[str, Answer] = OrderedDict()
        self._asking: dict[str, asyncio.Task[Answer]] = {}
        self._turns = asyncio.Semaphore(MAX_QUESTIONS)

    async def resolve(self, name: str) -> Sequence[str]:
        """IP addresses of ``name``; raises DestinationError."""
        name = _normal(name)
        if name == "localhost" or name.endswith(".localhost"):  # RFC 6761 §6.3
            return _LOOPBACK
        until, addresses = self._kept.get(name, (0.0, ()))
        if until <= self._now():
            _, addresses = await asyncio.shield(self._question(name))
        if not addresses:
            raise DestinationError(Reason.HOST_UNREACHABLE)
        return addresses

    def _question(self, name: str) -> asyncio.Task[Answer]:
        """Shared by all who ask for the same name; goes on when one of them gives up."""
        task = self._asking.get(name)
        if task is None:
            task = self._asking[name] = asyncio.ensure_future(self._ask(name))
            task.add_done_callback(lambda task: self._keep(name, task))
        return task

    def _keep(self, name: str, task: asyncio.Task[Answer]) -> None:
        del self._asking[name]
        if task.cancelled() or task.exception() is not None:
            return
        self._kept[name] = task.result()
        self._kept.move_to_end(name)
        if len(self._kept) > MAX_NAMES:
            self._kept.popitem(last=False)

    async def _ask(self, name: str) -> Answer:
        async with self._turns:
            for number, seconds in enumerate(TRIES):
                nameserver = self._nameservers[number % len(self._nameservers)]
                kinds = [self._ask_one(nameserver, name, kind, seconds) for kind in ("A", "AAAA")]
                found = [part for part in await asyncio.gather(*kinds) if part is not None]
                if found:
                    return _joined(found, self._now())
        raise DestinationError(Reason.TIMED_OUT)

    async def _ask_one(
        self, nameserver: Destination, name: str, kind: str, seconds: float
    ) -> Answer | None:
        """Seconds to keep it, and addresses; None when no answer came, or a refusal."""
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
    """The answer to ``query``; what only looks like one is passed over."""
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
    """IPv4 and IPv6 together, kept as long as the shorter of those that there are."""
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
    """Lower case, ASCII, without the last dot; raises DestinationError."""
    try:
        return encode_name(name).decode().lower().rstrip(".")
    except ValueError:
        raise DestinationError(Reason.HOST_UNREACHABLE) from None


def parse_nameservers(texts: Sequence[str]) -> tuple[Destination, ...]:
    """``ADDRESS`` or ``ADDRESS:PORT``, or the system's when there are none.

    Raises ConfigError.
    """
    return tuple(map(_parse_nameserver, texts)) or _of_the_system()


def _parse_nameserver(text: str) -> Destination:
    try:
        return Destination(str(ipaddress.ip_address(text)), DNS_PORT)
    except ValueError:
        pass
    try:
        host, port = parse_address(text)
        return Destination(str(ipaddress.ip_address(host)), port)
    except (LinkError, ValueError):
        message = f"egress.nameservers: {text!r} is no IP address, with or without a port"
        raise ConfigError(message, stage="config") from None


def _of_the_system(file: Path = Path("/etc/resolv.conf")) -> tuple[Destination, ...]:
    """As resolv.conf(5) says, which falls back to this machine as well."""
    try:
        lines = [line.split() for line in file.read_text().splitlines()]
    except OSError:
        lines = []
    named = [line[1] for line in lines if line[:1] == ["nameserver"] and len(line) > 1]
    return tuple(Destination(address, DNS_PORT) for address in named or ["127.0.0.1"])
