"""Names that users visit: asked of the relay's nameservers, kept as long as their owners say.

Not by the system's resolver: that blocks a thread for each name that nobody answers for, and
reads odd spellings of loopback addresses as such. ``dnspython`` is the codec (RFC 1035), the
questions travel over our own sockets, each from a port of its own.
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
SHORTEST, LONGEST = 10, 600  # seconds that an answer is kept, whatever its owner says
NEGATIVE = 15.0  # seconds: who asks again and again for nothing is answered by us
TRIES = (1.0, 2.0, 3.0)  # seconds for each; nameservers take turns
MAX_QUESTIONS = 256  # at a time, each with a socket for A and one for AAAA
USER_SHARE = 4  # part of them for one user: names that nobody answers for cost only who asks
TURN_SECONDS = 2.0  # to wait for one's turn; browsers would rather know
_PAYLOAD = 1232  # RFC 9715: fits every path unfragmented, and 40 addresses fit it
_LOOPBACK = ("127.0.0.1", "::1")

Answer = tuple[float, Sequence[str]]  # until when it is good; nothing when there is no such name


@dataclass(slots=True)
class _Question:
    """Goes on while somebody waits for the answer."""

    task: asyncio.Task[Answer]
    askers: int = 0


class NameResolver:
    """Asks ``nameservers``; one question at a time for each name and user.

    Nothing is shared between users. What one of them asked for would be there sooner for another,
    who could tell by that who visits what; and a question may be in line behind many.
    """

    def __init__(
        self, nameservers: Sequence[Destination], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._nameservers = nameservers
        self._now = now
        self._kept: OrderedDict[tuple[str, str], Answer] = OrderedDict()
        self._asking: dict[tuple[str, str], _Question] = {}
        self._turns = asyncio.Semaphore(MAX_QUESTIONS)
        self._shares: defaultdict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(MAX_QUESTIONS // USER_SHARE)
        )

    async def resolve(self, name: str, user: str) -> Sequence[str]:
        """IP addresses of ``name``, for ``user``; raises DestinationError."""
        name = _normal(name)
        if name == "localhost" or name.endswith(".localhost"):  # RFC 6761 §6.3
            return _LOOPBACK
        until, addresses = self._kept.get((user, name), (0.0, ()))
        if until <= self._now():
            _, addresses = await self._share_question(user, name)
        if not addresses:
            raise DestinationError(Reason.HOST_UNREACHABLE)
        return addresses

    async def _share_question(self, user: str, name: str) -> Answer:
        """It goes on when one of its askers gives up, and ends when the last one does."""
        question = self._asking.get((user, name))
        if question is None:
            task = asyncio.ensure_future(self._ask(user, name))
            question = self._asking[user, name] = _Question(task)
        question.askers += 1
        try:
            return await asyncio.shield(question.task)
        finally:
            question.askers -= 1
            if not question.askers:
                del self._asking[user, name]
                question.task.cancel()

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
        """First among the user's own questions, then among everybody's."""
        async with AsyncExitStack() as turns:
            try:
                async with asyncio.timeout(TURN_SECONDS):
                    await turns.enter_async_context(self._shares[user])
                    await turns.enter_async_context(self._turns)
            except TimeoutError:
                raise DestinationError(Reason.TIMED_OUT) from None
            yield

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
        lines = [line.split() for line in file.read_text(errors="replace").splitlines()]
    except OSError:
        lines = []
    named = [line[1] for line in lines if line[:1] == ["nameserver"] and len(line) > 1]
    return tuple(Destination(address, DNS_PORT) for address in named or ["127.0.0.1"])
