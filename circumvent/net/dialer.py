"""The Dialer that plugins are handed: every connection of the client starts here."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from circumvent.api.contracts import TlsOptions
from circumvent.api.streams import ByteStream, PeekStream
from circumvent.errors import DialError
from circumvent.net import tcp
from circumvent.net.resolver import resolve
from circumvent.net.sockets import RECEIVE_BUFFER
from circumvent.net.tls import TlsClient

_NEXT_ADDRESS_AFTER = 0.25  # RFC 8305 §5: Connection Attempt Delay, seconds


class NetDialer:
    """Connects over the machine's own network. Implements ``circumvent.api.Dialer``."""

    def __init__(self, tls: TlsClient, *, receive_buffer: int = RECEIVE_BUFFER) -> None:
        self._tls = tls
        self._receive_buffer = receive_buffer

    async def tcp(self, host: str, port: int) -> PeekStream:
        """Connect to the first address of ``host`` that answers; raises DialError."""
        addresses = await resolve(host)
        if len(addresses) == 1:
            return await self._connect(addresses[0], port)
        return await self._first(addresses, port)

    async def tls(self, stream: PeekStream, options: TlsOptions) -> ByteStream:
        """Start TLS on ``stream``; raises HandshakeError."""
        return await self._tls.start(stream, options)

    async def resolve(self, name: str) -> Sequence[str]:
        """IP addresses of a server's name; raises DialError."""
        return await resolve(name)

    async def _connect(self, address: str, port: int) -> PeekStream:
        return await tcp.connect(address, port, receive_buffer=self._receive_buffer)

    async def _first(self, addresses: Sequence[str], port: int) -> PeekStream:
        """Happy Eyeballs (RFC 8305): staggered attempts, the first connection wins."""
        waiting = list(_interleave(addresses))
        running: set[asyncio.Task[PeekStream]] = set()
        error: DialError | None = None
        try:
            while waiting or running:
                if waiting:
                    running.add(asyncio.ensure_future(self._connect(waiting.pop(0), port)))
                pause = _NEXT_ADDRESS_AFTER if waiting else None
                done, running = await asyncio.wait(
                    running, timeout=pause, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    failure = task.exception()
                    if failure is None:
                        return task.result()
                    error = failure if isinstance(failure, DialError) else error
        finally:
            for task in running:
                task.cancel()
            for late in await asyncio.gather(*running, return_exceptions=True):
                if isinstance(late, PeekStream):
                    late.abort()
        raise error or DialError("the server's name has no addresses", stage="resolve")


def _interleave(addresses: Sequence[str]) -> list[str]:
    """Alternate the families (RFC 8305 §4), the resolver's first choice first."""
    first_is_six = ":" in addresses[0] if addresses else False
    same = [address for address in addresses if (":" in address) == first_is_six]
    other = [address for address in addresses if (":" in address) != first_is_six]
    mixed = [address for pair in zip(same, other, strict=False) for address in pair]
    return mixed + same[len(other) :] + other[len(same) :]
