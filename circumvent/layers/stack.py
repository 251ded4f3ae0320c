"""Stacks of layers: what one dial goes through, what that costs, and the tunnel that does it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from circumvent.api.cost import Cost
from circumvent.api.layer import Dial, HeaderStream, Layer
from circumvent.api.streams import ByteStream
from circumvent.api.tunnel import Tunnel
from circumvent.wire.address import Destination
from circumvent.wire.request_header import encode_request


def stacked(dial: Dial, layers: Iterable[Layer]) -> Dial:
    """``dial`` through all of ``layers``, the lowest first."""
    for layer in layers:
        dial = layer.over(dial)
    return dial


def stack_cost(layers: Iterable[Layer]) -> Cost:
    """The most that one stream through all of ``layers`` allocates outside of the arena."""
    return sum((layer.cost for layer in layers), Cost(0, 0))


class HeaderTunnel(Tunnel):
    """Dials for every stream, and puts a header with the destination before its first bytes.

    ``header`` makes it; it raises ValueError for a name that fits no header. The server sends no
    reply of its own.
    """

    def __init__(self, dial: Dial, header: Callable[[Destination], bytes]) -> None:
        self._dial = dial
        self._header = header

    async def open(self, destination: Destination) -> ByteStream:
        header = encode_request(self._header, destination)
        return HeaderStream(await self._dial(), header)
