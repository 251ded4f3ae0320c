"""One TCP connection where a host has several addresses (RFC 8305)."""

from __future__ import annotations

from collections.abc import Sequence

from circumvent.api.streams import PeekStream
from circumvent.errors import DialError
from circumvent.net import tcp
from circumvent.net.sockets import SocketBuffers
from circumvent.net.stagger import first_success

_NEXT_ADDRESS_AFTER = 0.25  # RFC 8305 §5: Connection Attempt Delay, seconds


async def connect_any(addresses: Sequence[str], port: int, buffers: SocketBuffers) -> tcp.TcpStream:
    """Connect to the first of the IP addresses that answers; raises DialError."""
    if not addresses:
        message = "the server's name has no addresses"
        raise DialError(message, stage="resolve")
    if len(addresses) == 1:
        return await tcp.connect(addresses[0], port, buffers)
    entrants = [tcp.connect(address, port, buffers) for address in _interleave(addresses)]
    return await first_success(entrants, _NEXT_ADDRESS_AFTER, PeekStream.abort)


def _interleave(addresses: Sequence[str]) -> list[str]:
    """Alternate the families (RFC 8305 §4), the resolver's first choice first."""
    first_is_six = ":" in addresses[0]
    same = [address for address in addresses if (":" in address) == first_is_six]
    other = [address for address in addresses if (":" in address) != first_is_six]
    mixed = [address for pair in zip(same, other, strict=False) for address in pair]
    return mixed + same[len(other) :] + other[len(same) :]
