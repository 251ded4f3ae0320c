"""One TCP connection where a host has several addresses (RFC 8305)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from circumvent.api.streams import PeekStream
from circumvent.errors import DialError
from circumvent.net import tcp
from circumvent.net.sockets import SocketBuffers
from circumvent.net.stagger import first_success

NEXT_ADDRESS_AFTER = 0.25  # RFC 8305 §5: Connection Attempt Delay, seconds
KEPT_SECONDS = 600.0  # RFC 6555 §4.2; then the resolver's first choice gets another chance


class AddressCache:
    """Remembers which address of a server answered, where that was not its first one.

    So a first address that is dead or slow delays one connection now and then, not every one
    (RFC 6555 §4.2). Forget everything on another network (RFC 8305 §4).
    """

    def __init__(
        self,
        next_after: float = NEXT_ADDRESS_AFTER,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.next_after = next_after
        self._now = now
        self._kept: dict[tuple[str, int], tuple[float, str]] = {}

    async def connect(
        self, server: tuple[str, int], addresses: Sequence[str], buffers: SocketBuffers
    ) -> tcp.TcpStream:
        """As ``connect_any``; ``server`` is the name that has these addresses, and the port."""
        ordered = self._in_order(server, addresses)
        stream = await connect_any(ordered, server[1], buffers, self.next_after)
        if len(addresses) > 1:
            self._note(server, addresses[0], stream.peer)
        return stream

    def forget(self) -> None:
        """Drop everything."""
        self._kept.clear()

    def _in_order(self, server: tuple[str, int], addresses: Sequence[str]) -> Sequence[str]:
        until, answered = self._kept.get(server, (0.0, ""))
        if answered not in addresses or self._now() > until:
            self._kept.pop(server, None)
            return addresses
        return (answered, *(address for address in addresses if address != answered))

    def _note(self, server: tuple[str, int], first: str, answered: str) -> None:
        _, known = self._kept.get(server, (0.0, ""))
        if answered == first:
            self._kept.pop(server, None)
        elif answered != known:
            self._kept[server] = self._now() + KEPT_SECONDS, answered


async def connect_any(
    addresses: Sequence[str],
    port: int,
    buffers: SocketBuffers,
    next_after: float = NEXT_ADDRESS_AFTER,
) -> tcp.TcpStream:
    """Connect to the first of the IP addresses that answers; raises DialError.

    The next address is tried when the one before has not answered after ``next_after`` seconds.
    """
    if not addresses:
        raise DialError("the server's name has no addresses", stage="resolve")
    if len(addresses) == 1:
        return await tcp.connect(addresses[0], port, buffers)
    entrants = [tcp.connect(address, port, buffers) for address in _interleave(addresses)]
    return await first_success(entrants, next_after, PeekStream.abort)


def _interleave(addresses: Sequence[str]) -> list[str]:
    """Alternate the families (RFC 8305 §4), the resolver's first choice first."""
    first_is_six = ":" in addresses[0]
    same = [address for address in addresses if (":" in address) == first_is_six]
    other = [address for address in addresses if (":" in address) != first_is_six]
    mixed = [address for pair in zip(same, other, strict=False) for address in pair]
    return mixed + same[len(other) :] + other[len(same) :]
