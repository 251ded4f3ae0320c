"""Trust on first use, as SSH has it: for servers for whose certificate nobody vouches.

The key that a server shows first is demanded from then on: within one attempt at once, and for
ever when a probe has passed. Once it is known, it is a pin like that of a link. Why the key and
not the certificate: docs/decisions/0020.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from circumvent.api import Datagrams, NetworkDialer, TlsOptions
from circumvent.api.streams import ByteStream, PeekStream, Route, SecureStream, TlsEngine
from circumvent.errors import HandshakeError, PinError
from circumvent.state.certificates import CertificateTable, changed


class FirstUse:
    """The key of ``server`` (an id), for one attempt and the tunnel that it brings.

    ``is_known``: an earlier attempt has remembered it, so that the server proves itself by it.
    """

    def __init__(self, server: str, known: CertificateTable) -> None:
        self._server = server
        self._known = known
        self._key = known.key_of(server)
        self.is_known = bool(self._key)

    def dialer(self, dialer: NetworkDialer) -> NetworkDialer:
        """``dialer``, on whose connections TLS demands that key."""
        return _FirstUseDialer(dialer, self)

    def keep(self) -> None:
        """The server works: remember its key.

        Raises PinError where another attempt has remembered another key meanwhile.
        """
        if self._key and self._known.keep(self._server, self._key) != self._key:
            raise self._changed()

    async def start(
        self, engine: TlsEngine, stream: ByteStream, options: TlsOptions
    ) -> SecureStream:
        """As ``engine``; raises PinError when the server shows another key."""
        if options.authenticates:
            return await engine.start(stream, options)
        if not self._key:
            return self._learn(await engine.start(stream, options))
        try:
            return await engine.start(stream, replace(options, spki_sha256=(self._key,)))
        except PinError as error:
            raise self._changed() from error

    def _learn(self, stream: SecureStream) -> SecureStream:
        """Of two handshakes at a time, the second must show what the first one showed."""
        shown = stream.server_key()
        self._key = self._key or shown
        if shown and shown == self._key:
            return stream
        stream.abort()
        if not shown:
            raise HandshakeError("the server's certificate cannot be read", stage="tls")
        raise self._changed()

    def _changed(self) -> PinError:
        self._known.refuse(self._server)
        return PinError(changed(self._server), stage="certificate")


class _FirstUseDialer:
    """Implements ``circumvent.api.NetworkDialer``: another one whose TLS goes by ``first_use``."""

    def __init__(self, dialer: NetworkDialer, first_use: FirstUse) -> None:
        self._dialer = dialer
        self._first_use = first_use

    async def tcp(self, host: str, port: int) -> PeekStream:
        stream = await self._dialer.tcp(host, port)
        stream.route = _FirstUseRoute(stream.route, self._first_use)
        return stream

    async def udp(self, host: str, port: int) -> Datagrams:
        return await self._dialer.udp(host, port)

    async def resolve(self, name: str) -> Sequence[str]:
        return await self._dialer.resolve(name)


class _FirstUseRoute(Route):
    """A route on which TLS goes by ``first_use``."""

    __slots__ = ("_route",)

    def __init__(self, route: Route, first_use: FirstUse) -> None:
        super().__init__(_FirstUseTls(route.tls, first_use))
        self._route = route

    def handshake(self, peer: str, server_name: str) -> AbstractAsyncContextManager[None]:
        return self._route.handshake(peer, server_name)


class _FirstUseTls:
    """A TLS engine that goes by ``first_use``."""

    def __init__(self, engine: TlsEngine, first_use: FirstUse) -> None:
        self._engine = engine
        self._first_use = first_use

    async def start(self, stream: ByteStream, options: TlsOptions) -> SecureStream:
        return await self._first_use.start(self._engine, stream, options)

    def forget(self) -> None:
        self._engine.forget()
