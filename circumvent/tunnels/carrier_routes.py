"""The routes to one relay: which kind of carrier, straight or through others, which family."""

from __future__ import annotations

import asyncio
import ipaddress
import math
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
from circumvent.net.clock import SYSTEM_CLOCK, Clock
from circumvent.net.neighbourhood import network_of
from circumvent.tunnels.backoff import Backoff
from circumvent.tunnels.timings import Timings

_VERSIONS = {4: "IPv4", 6: "IPv6"}


@dataclass(frozen=True, slots=True)
class CarrierRoute:
    """One route to reach the relay. ``network`` tells routes apart that one blow may end together.

    ``is_indirect``: it goes through tunnels of others, and is no route to begin with.
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


async def find_routes(
    carriers: Iterable[Carrier], host: str, dialer: Dialer, through: Dialer | None
) -> list[CarrierRoute]:
    """All routes to a relay at ``host``, the preferred first."""
    carriers = list(carriers)
    families = await _families(host, dialer)
    routes = [
        CarrierRoute(carrier, OneFamilyDialer(dialer, version), _VERSIONS[version])
        for version in families
        for carrier in carriers
    ] or [CarrierRoute(carrier, dialer) for carrier in carriers]
    if through is not None:
        routes += [
            CarrierRoute(carrier, through, "through tunnels", is_indirect=True)
            for carrier in carriers
        ]
    return routes


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

    def __init__(self, route: CarrierRoute, routes: CarrierRoutes) -> None:
        super().__init__(route.dialer)
        self._route = route
        self._routes = routes
        self._is_counted = False

    async def tcp(self, host: str, port: int) -> ByteStream:
        """As the dialer; raises DialError."""
        stream = await super().tcp(host, port)
        stream.route = MeteredRoute(stream.route, host, self._count)
        return stream

    async def _count(self, name: str) -> None:
        if not self._is_counted:
            self._is_counted = True
            await self._routes.await_handshake(self._route, name)


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
    """What outlives a tunnel: failed handshakes, and the server names that routes show in them."""

    backoff: Backoff = field(default_factory=Backoff)
    names: dict[tuple[str, str], str] = field(default_factory=dict)


class CarrierRoutes:
    """Chooses the next route: one that may be tried, and as unlike those in use as there is.

    ``relay`` is whose routes these are. Failures are counted for each route. Handshakes in vain are
    counted apart from them, and outlive the tunnel; those also for the server name that they show,
    which other routes may share.
    """

    def __init__(
        self,
        routes: Sequence[CarrierRoute],
        past: RouteHistory | None = None,
        relay: str = "",
        clock: Clock = SYSTEM_CLOCK,
        timings: Timings | None = None,
    ) -> None:
        past = past or RouteHistory()
        timings = timings or Timings()
        self._routes = routes
        self._now = clock.now
        self._timings = timings.carriers
        self._failures = Backoff(timings.backoff)
        self._handshakes = past.backoff
        self._names = past.names
        self._relay = relay

    def choose(self, used: Sequence[CarrierRoute], now: float) -> CarrierRoute | None:
        """The next route beside those ``used``; None while none may be tried."""
        ready = [route for route in self._routes if self._ready_at(route) <= now]
        return min(ready, key=lambda route: _alike(route, used), default=None)

    def choose_alone(self, used: Sequence[CarrierRoute], now: float) -> CarrierRoute | None:
        """While no carrier is up, only handshakes are spared; what failed longest ago is next.

        The tunnels of others are tried when every direct route failed or does not answer.
        """
        ready = [route for route in self._routes if self._handshake_at(route) <= now]
        direct = [route for route in ready if not route.is_indirect]
        if all(route in used or self._failures.ready_at(route) > now for route in direct):
            direct = ready
        return min(
            direct, key=lambda route: (*_alike(route, used), self._failed_at(route)), default=None
        )

    def next_at(self) -> float:
        """When a route may be tried."""
        return min(map(self._ready_at, self._routes))

    def may_begin_at(self) -> float:
        """When a tunnel may be begun."""
        return min(self._handshake_at(route) for route in self._routes if not route.is_indirect)

    async def await_handshake(self, route: CarrierRoute, name: str) -> None:
        """Wait until a handshake may begin, and count it as one in vain until ``lived``.

        Raises DialError when that is too long: what waits with an open connection is seen too.
        """
        self._names[self._key(route)] = name
        while (wait := self._handshake_at(route) - self._now()) > 0.0:
            if wait > self._timings.handshake_patience:
                raise DialError("the relay saw enough handshakes for now", stage="carrier")
            await asyncio.sleep(wait)
        now = self._now()
        for key in self._handshake_keys(route):
            self._handshakes.failed(key, now)

    def failed(self, route: CarrierRoute, now: float) -> None:
        """A dial failed, or a carrier broke early."""
        self._failures.failed(route, now)

    def worked(self, route: CarrierRoute) -> None:
        """The relay answered."""
        self._failures.worked(route)

    def lived(self, route: CarrierRoute, until: float = math.inf) -> None:
        """Its carrier was not cut at once: handshakes before ``until`` were not in vain."""
        for key in self._handshake_keys(route):
            self._handshakes.worked(key, until)

    def ask(self, now: float) -> None:
        """Somebody waits, or the relay is known to be back."""
        self._failures.ask(now)
        self._handshakes.ask(now)

    def forget(self) -> None:
        """The network changed: old failures say nothing."""
        for route in self._routes:
            self.worked(route)
            self.lived(route)

    def _key(self, route: CarrierRoute) -> tuple[str, str]:
        return self._relay, route.name

    def _handshake_keys(self, route: CarrierRoute) -> Iterator[Hashable]:
        key = self._key(route)
        yield ("handshake", *key)
        if not route.is_indirect and key in self._names:
            yield "name", self._names[key]

    def _handshake_at(self, route: CarrierRoute) -> float:
        return max(map(self._handshakes.ready_at, self._handshake_keys(route)))

    def _ready_at(self, route: CarrierRoute) -> float:
        return max(self._failures.ready_at(route), self._handshake_at(route))

    def _failed_at(self, route: CarrierRoute) -> float:
        last_handshake = self._handshakes.failed_at(("handshake", *self._key(route)))
        return max(self._failures.failed_at(route), last_handshake)


def _alike(route: CarrierRoute, used: Sequence[CarrierRoute]) -> tuple[int, int, int]:
    """Least first: not the same route, not the same network, not the same kind."""
    return (
        used.count(route),
        sum(other.network == route.network for other in used),
        sum(other.carrier is route.carrier for other in used),
    )
