"""The client's side of TLS: of our own with a browser's ClientHello, or OpenSSL's.

OpenSSL serves only where a server speaks no TLS 1.3. Each engine is loaded when it is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from circumvent.api import TlsOptions
from circumvent.api.streams import ByteStream, SecureStream
from circumvent.errors import HandshakeError, OldTlsError
from circumvent.layers.tls.old_servers import OldServers
from circumvent.layers.tls.openssl import OpenSslClient, place_of
from circumvent.layers.tls.tickets import TicketScope
from circumvent.memory import Account

if TYPE_CHECKING:
    from circumvent.layers.tls.tls13_tickets import Tls13Tickets


class TlsClient:
    """Starts TLS as a client.

    ``account`` pays for the contexts of OpenSSL that it keeps; ``old`` are the servers that need
    them.
    """

    def __init__(
        self,
        ca_file: str | None = None,
        account: Account | None = None,
        old: OldServers | None = None,
    ) -> None:
        self._ca_file = ca_file
        self._openssl = OpenSslClient(ca_file, account)
        self._old = OldServers() if old is None else old
        self._tickets: Tls13Tickets | None = None

    async def start(self, stream: ByteStream, options: TlsOptions) -> SecureStream:
        """Shake hands over ``stream`` and own it.

        Raises HandshakeError, and BudgetError; the stream is then closed. OldTlsError says that
        the server speaks no TLS 1.3: on the next connection to it OpenSSL will be used.
        """
        scope = TicketScope(place_of(stream), options)
        if scope in self._old:
            return await self._openssl.start(stream, options)
        return await self._start_tls13(stream, scope)

    async def _start_tls13(self, stream: ByteStream, scope: TicketScope) -> SecureStream:
        # Not at import: a client that shakes no hands yet needs none of it.
        from circumvent.layers.tls.tls13_handshake import (  # noqa: PLC0415
            TicketPlace,
            start_tls13,
        )
        from circumvent.layers.tls.tls13_tickets import Tls13Tickets  # noqa: PLC0415

        if self._tickets is None:
            self._tickets = Tls13Tickets()
        place = TicketPlace(self._tickets, scope)
        try:
            return await start_tls13(stream, scope.options, self._ca_file, place)
        except OldTlsError as error:
            if scope.options.only_tls13 or scope.options.ech:  # OpenSSL would show the name
                raise HandshakeError(str(error), stage="tls") from error
            self._old.add(scope)
            raise

    def forget(self) -> None:
        """Drop all tickets, and those that older connections bring later."""
        self._openssl.forget()
        self._tickets = None
