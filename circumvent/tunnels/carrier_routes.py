"""The ways to one relay: which kind of carrier, straight or through others, which family."""

from __future__ import annotations

import asyncio
import ipaddress
import math
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Hashable,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from circumvent.api import Carrier, Dialer, DialerWrapper
from circumvent.api.streams import ByteStream, Route
from circumvent.errors import DialError
from circumvent.net.neighbourhood import network_of
from circumvent.tunnels.backoff import Backoff

GREETING_PATIENCE = 1.0  # seconds that a connection may stand open before its greeting
_VERSIONS = {4: "IPv4", 6: "IPv6"}


@dataclass(frozen=True, slots=True)
class CarrierRoute:
    """One way to reach the relay. ``network`` tells ways apart that one blow may end together.

    ``is_indirect``: it goes through tunnels of others, and is no way to begin with.
    """

    carrier: Carrier
    dialer: Dialer
    network: str = ""
    is_indirect: bool = False

    @property
    def name(self) -> str:
        """For people: ``tls IPv6``."""
        return f"{self.carrier.name} {self.network}".rstrip()


class OneFamilyDialer(DialerWrapper):
    """A Dialer that prefers addresses of one version of IP."""

    def __init__(self, dialer: Dialer, version: int) -> None:
        super().__init__(dialer)
        self._version = version

    async def tcp(self, host: str, port: int) -> ByteStream:
        """Connect to an address of that version, if the host has one; raises DialError."""
        addresses = await self.resolve(host)
        chosen = [each for each in addresses if _version(each) == self._version]
        return await super().tcp(chosen[0] if chosen else host, port)


async def find_ways(
    carriers: Iterable[Carrier], host: str, dialer: Dialer, through: Dialer | None
) -> list[CarrierRoute]:
    """All ways to a relay at ``host``, the preferred first."""
    carriers = list(carriers)
    families = await _families(host, dialer)
    ways = [
        CarrierRoute(carrier, OneFamilyDialer(dialer, version), _VERSIONS[version])
        for version in families
        for carrier in carriers
    ] or [CarrierRoute(carrier, dialer) for carrier in carriers]
    if through is not None:
        ways += [
            CarrierRoute(carrier, through, "through tunnels", is_indirect=True)
            for carrier in carriers
        ]
    return ways


async def _families(host: str, dialer: Dialer) -> list[int]:
    """Both versions of IP, the preferred first, if ``host`` has both; else none."""
    try:
        versions = [_version(each) for each in await dialer.resolve(host)]
    except DialError:  # the first dial will say so, and later ones may find it
        return []
    distinct = list(dict.fromkeys(filter(None, versions)))
    return distinct if len(distinct) > 1 else []


def _version(address: str) -> int:
    try:
        return ipaddress.ip_address(address).version
    except ValueError:
        return 0


class MeteredDialer(DialerWrapper):
    """What one dial of a carrier route is given: its first handshake is counted, and waits.

    Further ones belong to a dial that was let in, and nobody sees handshakes inside of tunnels.
    """

    def __init__(self, way: CarrierRoute, roster: CarrierRoutes) -> None:
        super().__init__(way.dialer)
        self._way = way
        self._roster = roster
        self._is_counted = False

    async def tcp(self, host: str, port: int) -> ByteStream:
        """As the dialer; raises DialError."""
        stream = await super().tcp(host, port)
        stream.route = MeteredRoute(stream.route, host, self._count)
        return stream

    async def _count(self, name: str) -> None:
        if not self._is_counted:
            self._is_counted = True
            await self._roster.greet(self._way, name)


class MeteredRoute(Route):
    """The route of a connection to ``host``; ``count`` is told by what a censor counts."""

    __slots__ = ("_count", "_host", "_route")

    def __init__(self, route: Route, host: str, count: Callable[[str], Awaitable[None]]) -> None:
        super().__init__(route.tls)
        self._route = route
        self._host = host
        self._count = count

    @asynccontextmanager
    async def handshake(self, peer: str, server_name: str) -> AsyncIterator[None]:
        """As the route's; raises DialError when there were enough handshakes."""
        await self._count(f"{network_of(peer or self._host)} {server_name}")
        async with self._route.handshake(peer, server_name):
            yield


@dataclass(slots=True)
class RouteHistory:
    """What outlives a tunnel: who rests, and the names by which ways greet."""

    rests: Backoff = field(default_factory=Backoff)
    names: dict[tuple[str, str], str] = field(default_factory=dict)


class CarrierRoutes:
    """Chooses the next way: one that rested, and as unlike those in use as there is.

    ``relay`` is whose ways these are. Failures are counted for each way, and apart from them its
    greetings in vain, which outlive the tunnel; those also for the name that it greets by, which
    other ways may share.
    """

    def __init__(
        self, ways: Sequence[CarrierRoute], past: RouteHistory | None = None, relay: str = ""
    ) -> None:
        past = past or RouteHistory()
        self._ways = ways
        self._failures = Backoff()
        self._greeted = past.rests
        self._names = past.names
        self._relay = relay

    def choose(self, used: Sequence[CarrierRoute], now: float) -> CarrierRoute | None:
        """The next way beside those ``used``; None while all rest."""
        rested = [way for way in self._ways if self._rested_at(way) <= now]
        return min(rested, key=lambda way: _alike(way, used), default=None)

    def choose_alone(self, used: Sequence[CarrierRoute], now: float) -> CarrierRoute | None:
        """While no carrier is up only greetings are spared; who failed longest ago is next.

        The tunnels of others are tried when every direct way failed or does not answer.
        """
        ready = [way for way in self._ways if self._may_greet_at(way) <= now]
        direct = [way for way in ready if not way.is_indirect]
        if all(way in used or self._failures.ready_at(way) > now for way in direct):
            direct = ready
        return min(direct, key=lambda way: (*_alike(way, used), self._failed_at(way)), default=None)

    def next_at(self) -> float:
        """When somebody has rested."""
        return min(map(self._rested_at, self._ways))

    def may_begin_at(self) -> float:
        """When a tunnel may be begun."""
        return min(self._may_greet_at(way) for way in self._ways if not way.is_indirect)

    async def greet(self, way: CarrierRoute, name: str) -> None:
        """Wait for a greeting's turn, and count it as one in vain until ``lived``.

        Raises DialError when that is too long: what waits with an open connection is seen too.
        """
        self._names[self._key(way)] = name
        while (wait := self._may_greet_at(way) - time.monotonic()) > 0.0:
            if wait > GREETING_PATIENCE:
                raise DialError("the relay was greeted often enough", stage="carrier")
            await asyncio.sleep(wait)
        now = time.monotonic()
        for key in self._greetings(way):
            self._greeted.failed(key, now)

    def failed(self, way: CarrierRoute, now: float) -> None:
        """A dial failed, or a carrier broke early."""
        self._failures.failed(way, now)

    def worked(self, way: CarrierRoute) -> None:
        """The relay answered."""
        self._failures.worked(way)

    def lived(self, way: CarrierRoute, until: float = math.inf) -> None:
        """Its carrier was not cut at once: greetings before ``until`` were not in vain."""
        for key in self._greetings(way):
            self._greeted.worked(key, until)

    def ask(self, now: float) -> None:
        """Somebody waits, or the relay is known to be back."""
        self._failures.ask(now)
        self._greeted.ask(now)

    def forgive(self) -> None:
        """Things changed: old failures say nothing."""
        for way in self._ways:
            self.worked(way)
            self.lived(way)

    def _key(self, way: CarrierRoute) -> tuple[str, str]:
        return self._relay, way.name

    def _greetings(self, way: CarrierRoute) -> Iterator[Hashable]:
        key = self._key(way)
        yield ("greeting", *key)
        if not way.is_indirect and key in self._names:
            yield "name", self._names[key]

    def _may_greet_at(self, way: CarrierRoute) -> float:
        return max(map(self._greeted.ready_at, self._greetings(way)))

    def _rested_at(self, way: CarrierRoute) -> float:
        return max(self._failures.ready_at(way), self._may_greet_at(way))

    def _failed_at(self, way: CarrierRoute) -> float:
        greeted_at = self._greeted.failed_at(("greeting", *self._key(way)))
        return max(self._failures.failed_at(way), greeted_at)


def _alike(way: CarrierRoute, used: Sequence[CarrierRoute]) -> tuple[int, int, int]:
    """Least first: not the same way, not the same network, not the same kind."""
    return (
        used.count(way),
        sum(other.network == way.network for other in used),
        sum(other.carrier is way.carrier for other in used),
    )
