"""The client's handshake of our own TLS 1.3 over a stream."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace

from circumvent.api import TlsOptions
from circumvent.api.streams import ByteStream, PeekStream
from circumvent.errors import (
    CircumventError,
    ConfigError,
    HandshakeError,
    LinkError,
    ProtocolError,
    StreamResetError,
)
from circumvent.layers.exchange import receive_flight, send_flight
from circumvent.layers.tls.context import handshake_error
from circumvent.layers.tls.tickets import TicketScope
from circumvent.layers.tls.tls13_over_socket import Tls13OverSocket
from circumvent.layers.tls.tls13_over_stream import Tls13OverStream
from circumvent.layers.tls.tls13_stream import Take, Tls13Stream
from circumvent.layers.tls.tls13_tickets import Tls13Tickets
from circumvent.net.sockets import SocketStream
from circumvent.wire.tls13.choice import find_template
from circumvent.wire.tls13.client import Client
from circumvent.wire.tls13.connection import Connection
from circumvent.wire.tls13.greeting import Greeting
from circumvent.wire.tls13.hello import Hello, make_hello
from circumvent.wire.tls13.pins import PinnedServer
from circumvent.wire.tls13.proofs import AnyServer, Proof
from circumvent.wire.tls13.tickets import Offer


@dataclass(frozen=True, slots=True)
class TicketPlace:
    """Where the tickets of one connection come from and go to."""

    tickets: Tls13Tickets
    scope: TicketScope

    def offer(self) -> Offer | None:
        """The newest ticket, if there is one; never where the server's key is to be seen."""
        if not self.scope.options.authenticates:
            return None
        now = time.time()
        ticket = self.tickets.take(self.scope, now)
        return Offer(ticket, now) if ticket else None

    def take(self, connection: Connection) -> None:
        """Keep what came."""
        self.tickets.keep(self.scope, connection.take_tickets(time.time()))


async def start_tls13(
    stream: ByteStream, options: TlsOptions, ca_file: str | None, place: TicketPlace
) -> Tls13Stream:
    """Shake hands over ``stream`` and own it.

    Raises HandshakeError, of the kind OldTlsError where the server is too old; the stream is then
    closed.
    """
    try:
        client = _make_client(options, ca_file, place)
        connection = await shake_hands(stream, client)
    except BaseException as error:
        await give_up(stream, error)
        if isinstance(error, (StreamResetError, ProtocolError, ConfigError, LinkError)):
            raise handshake_error(error) from error
        raise
    return secured(stream, connection, client.leftover, place.take)


def _make_client(options: TlsOptions, ca_file: str | None, place: TicketPlace) -> Client:
    proof, hello = make_proof(options, ca_file), make_browser_hello(options)
    if not options.ech:
        return Client(Greeting(hello, place.offer()), proof)
    # Not at import: few links have a key for it.
    from circumvent.wire.tls13.ech import EncryptedGreeting  # noqa: PLC0415
    from circumvent.wire.tls13.ech_config import find_config  # noqa: PLC0415

    config = find_config(options.ech)
    public = replace(options, server_name=config.public_name, certificate_names=())
    greeting = EncryptedGreeting(hello, options.server_name, config)
    return Client(greeting, proof, make_proof(public, ca_file))


def secured(stream: ByteStream, connection: Connection, kept: bytes, take: Take) -> Tls13Stream:
    """The stream inside of ``connection``; ``kept`` came behind the handshake."""
    if isinstance(stream, PeekStream):
        return Tls13OverSocket(stream, connection, kept, take)
    return Tls13OverStream(stream, connection, kept, take)


def make_browser_hello(options: TlsOptions) -> Hello:
    """What the browser would send that ``options`` ask for."""
    name = options.server_name if options.send_name else ""
    return make_hello(find_template(options.fingerprint), name, options.alpn)


def make_proof(options: TlsOptions, ca_file: str | None) -> Proof:
    """What the server must show."""
    if options.certificate_sha256 or options.spki_sha256:
        return PinnedServer(options.certificate_sha256, options.spki_sha256, options.verified_names)
    if not options.verify:
        return AnyServer()
    from circumvent.wire.tls13.verify import TrustedServer  # noqa: PLC0415 - only for chains

    return TrustedServer(options.verified_names, ca_file)


async def shake_hands(stream: ByteStream, client: Client) -> Connection:
    """Raises HandshakeError, after its closing words were sent; StreamResetError, ProtocolError."""
    try:
        await send_flight(stream, client.start())
        while client.connection is None:
            came = await receive_flight(stream)
            if not came:
                raise HandshakeError("TLS handshake failed: the connection was cut", stage="tls")
            await send_flight(stream, client.receive(came))
    except HandshakeError:
        with contextlib.suppress(CircumventError):  # nobody is there to hear it
            await send_flight(stream, client.closing)
        raise
    return client.connection


async def give_up(stream: ByteStream, error: BaseException) -> None:
    """Close after a handshake that failed.

    In order where the server was told why, and where somebody took too long, as browsers do.
    """
    if isinstance(error, HandshakeError):
        await stream.aclose()
    elif isinstance(stream, SocketStream):
        stream.hang_up()
    else:
        stream.abort()
