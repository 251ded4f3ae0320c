"""The way to the network that plugins are handed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from circumvent.api.packets import Datagrams
from circumvent.api.streams import ByteStream, PeekStream, SecureStream


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """How to start TLS on a stream.

    ``server_name`` is sent as SNI and verified. ``certificate_sha256`` and ``spki_sha256`` are
    lists of acceptable SHA-256 digests (of the whole certificate, of its public key);
    with a pin, the chain need not lead to a known authority. ``verify=False`` is for users
    who asked for it by name. ``send_name=False`` sends no SNI; the name is verified all the same.
    ``only_tls13`` refuses a server that chose an older version; it is offered, as everybody does.
    """

    server_name: str
    alpn: tuple[str, ...] = ()
    verify: bool = True
    certificate_sha256: tuple[bytes, ...] = ()
    spki_sha256: tuple[bytes, ...] = ()
    send_name: bool = True
    only_tls13: bool = False


@dataclass(frozen=True, slots=True)
class WebSocketOptions:
    """What to ask for: the ``Host`` (a hidden one behind a front), a path, further headers."""

    host: str
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()


class Dialer(Protocol):
    """The only way to the network that a plugin has: straight, or through what tunnels are up."""

    async def tcp(self, host: str, port: int) -> ByteStream:
        """Connect; raises DialError, and through tunnels NoTunnelError and RemoteError."""
        ...

    async def tls(self, stream: ByteStream, options: TlsOptions) -> SecureStream:
        """Shake hands over ``stream`` and own it; raises HandshakeError."""
        ...

    async def websocket(self, stream: ByteStream, options: WebSocketOptions) -> ByteStream:
        """Ask for a WebSocket on ``stream`` and own it; raises HandshakeError."""
        ...

    async def udp(self, host: str, port: int) -> Datagrams:
        """Exchange datagrams; raises DialError, and UnsupportedError through tunnels."""
        ...

    async def resolve(self, name: str) -> Sequence[str]:
        """What to connect to for a server's name, best first; raises DialError.

        IP addresses; through tunnels the name itself, which only the far side looks up.
        """
        ...


class NetworkDialer(Dialer, Protocol):
    """The Dialer of transports: straight on the network, with the kernel's own streams."""

    async def tcp(self, host: str, port: int) -> PeekStream:
        """Connect; raises DialError."""
        ...
