"""TLS on any stream: as a client by options, as a server by a ready context.

A client speaks TLS 1.3 of our own, whose ClientHello is a browser's. Servers that speak only
TLS 1.2, and the server's side, are left to OpenSSL.
"""

from __future__ import annotations

import ssl

from circumvent.api import TlsOptions
from circumvent.api.streams import ByteStream, SecureStream
from circumvent.errors import BudgetError
from circumvent.layers.tls.context import ClientRoles, TlsRole
from circumvent.layers.tls.over_socket import over_socket
from circumvent.layers.tls.over_stream import over_stream
from circumvent.memory import Account
from circumvent.net.tcp import TcpStream


class OpenSslClient:
    """The engine of OpenSSL as a client; ``account`` pays for the contexts that it keeps."""

    def __init__(self, ca_file: str | None = None, account: Account | None = None) -> None:
        self._roles = ClientRoles(ca_file, account)

    async def start(self, stream: ByteStream, options: TlsOptions) -> SecureStream:
        """Shake hands over ``stream`` and own it.

        Raises HandshakeError, and BudgetError; the stream is then closed.
        """
        try:
            role = self._roles.role(options, place_of(stream))
        except BudgetError:
            stream.abort()
            raise
        return await _take_part(stream, role)

    def forget(self) -> None:
        """Drop all tickets."""
        self._roles.forget()


def place_of(stream: ByteStream) -> str:
    """Address and port at the other end of a TCP connection; empty for other streams."""
    return stream.place if isinstance(stream, TcpStream) else ""


async def accept_tls(stream: ByteStream, context: ssl.SSLContext) -> SecureStream:
    """The server's part of TLS on an accepted connection, or inside another stream.

    Raises HandshakeError; the stream is then closed. The caller bounds the time of a client.
    """
    return await _take_part(stream, TlsRole(context, server_side=True))


async def _take_part(stream: ByteStream, role: TlsRole) -> SecureStream:
    if isinstance(stream, TcpStream):
        return await over_socket(stream, role)
    return await over_stream(stream, role)
