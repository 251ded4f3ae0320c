"""VLESS with Vision: what is padded goes behind header and response, inside of TLS."""

from __future__ import annotations

from collections.abc import Callable

from circumvent.api import ByteStream, Dial, HandshakeError, HeaderStream, Tunnel
from circumvent.layers.tls.tls13_stream import Tls13Stream
from circumvent.layers.vision import VisionStream
from circumvent.wire.address import Destination
from circumvent.wire.request_header import encode_request
from circumvent_plugins.vless.response import ResponseStream


class VisionTunnel(Tunnel):
    """Dials TLS for every stream. ``header`` makes its request, ``user`` is the id as sent."""

    def __init__(self, dial: Dial, header: Callable[[Destination], bytes], user: bytes) -> None:
        self._dial = dial
        self._header = header
        self._user = user

    async def open(self, destination: Destination) -> ByteStream:
        header = encode_request(self._header, destination)
        tls = await self._dial()
        if not isinstance(tls, Tls13Stream):
            await tls.aclose()
            raise HandshakeError(
                "Vision needs TLS 1.3, and the server speaks TLS 1.2 only", stage="tls"
            )
        return VisionStream(tls, HeaderStream(ResponseStream(tls), header), self._user)
