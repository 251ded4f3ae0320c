"""REALITY as a layer: TLS to a server that shows anybody else the site that it imitates."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from circumvent.api.cost import Cost
from circumvent.api.layer import StreamLayer
from circumvent.api.streams import ByteStream, SecureStream
from circumvent.api.tls import TlsOptions
from circumvent.errors import CircumventError, LinkError, ProtocolError, StreamResetError
from circumvent.layers.costs import TLS_COST
from circumvent.layers.exchange import send_flight
from circumvent.layers.tls.context import handshake_error

if TYPE_CHECKING:
    from circumvent.wire.tls13.connection import Connection


@dataclass(frozen=True, slots=True)
class RealityOptions:
    """What a link says of a REALITY server.

    ``public_key`` is X25519 (32 bytes), ``short_id`` at most 8 bytes, ``pq_key`` ML-DSA-65 (1952
    bytes, or empty). ``server_name`` is the site that it imitates.
    """

    server_name: str
    public_key: bytes
    short_id: bytes = b""
    pq_key: bytes = b""
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class RealityLayer(StreamLayer):
    """TLS 1.3 with a token in the ClientHello, which only the server can read.

    ``clock`` gives Unix time in seconds; servers may refuse a token that is minutes old.
    """

    options: RealityOptions
    clock: Callable[[], float] = time.time

    @property
    def cost(self) -> Cost:
        return TLS_COST

    async def start(self, stream: ByteStream) -> SecureStream:
        """Shake hands over ``stream`` and own it, when it is its turn.

        Raises HandshakeError, also when the server is the imitated site itself, and DialError
        when too many handshakes were seen.
        """
        try:
            async with stream.route.handshake(stream.peer, self.options.server_name):
                return await _shake_hands(stream, self.options, int(self.clock()))
        except BaseException:
            await stream.aclose()
            raise


async def _shake_hands(stream: ByteStream, options: RealityOptions, unix_time: int) -> SecureStream:
    # Not at import: no other protocol needs these.
    from circumvent.layers.tls import tls13_handshake as handshake  # noqa: PLC0415
    from circumvent.wire.tls13.client import Client, RealCertificateError  # noqa: PLC0415
    from circumvent.wire.tls13.greeting import Greeting  # noqa: PLC0415
    from circumvent.wire.tls13.reality import RealityProof, Server  # noqa: PLC0415
    from circumvent.wire.tls13.verify import TrustedServer  # noqa: PLC0415

    server = Server(options.public_key, options.short_id, options.pq_key)
    proof = RealityProof(server, TrustedServer((options.server_name,)))
    try:
        hello = handshake.make_browser_hello(
            TlsOptions(options.server_name, fingerprint=options.fingerprint)
        )
        proof.seal(hello, unix_time)
        client = Client(Greeting(hello), proof)
        connection = await handshake.shake_hands(stream, client)
    except BaseException as error:
        if isinstance(error, RealCertificateError):  # no request is sent to the real site
            with contextlib.suppress(CircumventError):
                await send_flight(stream, error.connection.goodbye())
        await handshake.give_up(stream, error)
        if isinstance(error, (StreamResetError, ProtocolError, LinkError)):
            raise handshake_error(error) from error
        raise
    return handshake.secured(stream, connection, client.leftover, _forget_tickets)


def _forget_tickets(connection: Connection) -> None:
    """They belong to the imitated site, if there are any: no REALITY server resumes."""
    connection.take_tickets(0)
