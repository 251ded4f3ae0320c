"""The ways to one relay: which kind of carrier, straight or through others, which family."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from circumvent.api.contracts import Carrier, Dialer, TlsOptions, WebSocketOptions
from circumvent.api.datagrams import Datagrams
from circumvent.api.streams import ByteStream, SecureStream
from circumvent.errors import DialError

FIRST_REST, LONGEST_REST = 1.0, 60.0  # seconds; doubled at each failure in a row
_VERSIONS = {4: "IPv4", 6: "IPv6"}


@dataclass(frozen=True, slots=True)
class Way:
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


class OneFamily:
    """A Dialer that prefers addresses of one version of IP."""

    def __init__(self, dialer: Dialer, version: int) -> None:
        self._dialer = dialer
        self._version = version

    async def tcp(self, host: str, port: int) -> ByteStream:
        """Connect to an address of that version, if the host has one; raises DialError."""
        addresses = await self._dialer.resolve(host)
        chosen = [each for each in addresses if _version(each) == self._version]
        return await self._dialer.tcp(chosen[0] if chosen else host, port)

    async def tls(self, stream: ByteStream, options: TlsOptions) -> SecureStream:
        """As the dialer; raises HandshakeError."""
        return await self._dialer.tls(stream, options)

    async def websocket(self, stream: ByteStream, options: WebSocketOptions) -> ByteStream:
        """As the dialer; raises HandshakeError."""
        return await self._dialer.websocket(stream, options)

    async def udp(self, host: str, port: int) -> Datagrams:
        """As the dialer; raises DialError."""
        return await self._dialer.udp(host, port)

    async def resolve(self, name: str) -> Sequence[str]:
        """As the dialer; raises DialError."""
        return await self._dialer.resolve(name)


async def find_ways(
    carriers: Iterable[Carrier], host: str, dialer: Dialer, through: Dialer | None
) -> list[Way]:
    """All ways to a relay at ``host``, the preferred first."""
    carriers = list(carriers)
    families = await _families(host, dialer)
    ways = [
        Way(carrier, OneFamily(dialer, version), _VERSIONS[version])
        for version in families
        for carrier in carriers
    ] or [Way(carrier, dialer) for carrier in carriers]
    if through is not None:
        ways += [Way(carrier, through, "through tunnels", is_indirect=True) for carrier in carriers]
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


@dataclass(slots=True)
class _Rest:
    failures: int
    since: float

    @property
    def end(self) -> float:
        return self.since + min(FIRST_REST * 2.0 ** (self.failures - 1), LONGEST_REST)


class Roster:
    """Chooses the next way: one that rested, and as unlike those in use as there is."""

    def __init__(self, ways: Sequence[Way]) -> None:
        self._ways = ways
        self._rests: dict[Way, _Rest] = {}

    def choose(self, used: Sequence[Way], now: float) -> Way | None:
        """The next way beside those ``used``; None while all rest."""
        rested = [way for way in self._ways if self._rested_at(way) <= now]
        return min(rested, key=lambda way: _alike(way, used), default=None)

    def choose_alone(self, used: Sequence[Way]) -> Way:
        """While no carrier is up nobody rests, but who failed longest ago is next.

        The tunnels of others are tried when every direct way failed or does not answer.
        """
        direct = [way for way in self._ways if not way.is_indirect]
        is_stuck = all(way in used or way in self._rests for way in direct)
        ways = self._ways if is_stuck else direct
        return min(ways, key=lambda way: (*_alike(way, used), self._failed_at(way)))

    def next_at(self) -> float:
        """When somebody has rested."""
        return min(self._rested_at(way) for way in self._ways)

    def failed(self, way: Way, now: float) -> None:
        """A dial failed, or a carrier broke at once."""
        rest = self._rests.get(way)
        self._rests[way] = _Rest(rest.failures + 1 if rest else 1, now)

    def worked(self, way: Way) -> None:
        """It carried bytes."""
        self._rests.pop(way, None)

    def forgive(self) -> None:
        """Things changed: old failures say nothing."""
        self._rests.clear()

    def _rested_at(self, way: Way) -> float:
        rest = self._rests.get(way)
        return rest.end if rest else 0.0

    def _failed_at(self, way: Way) -> float:
        rest = self._rests.get(way)
        return rest.since if rest else 0.0


def _alike(way: Way, used: Sequence[Way]) -> tuple[int, int, int]:
    """Least first: not the same way, not the same network, not the same kind."""
    return (
        used.count(way),
        sum(other.network == way.network for other in used),
        sum(other.carrier is way.carrier for other in used),
    )
