"""What a transport plugin gives and gets: entries, tunnels and the dialer."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

from circumvent.api.datagrams import Datagrams
from circumvent.api.streams import ByteStream, PeekStream, SecureStream
from circumvent.memory import Account
from circumvent.wire.address import Destination


class Privacy(IntEnum):
    """What somebody between us and the server can see; the race never crosses downwards."""

    DIRECT = 0
    PLAIN = 1
    ENCRYPTED = 2


@dataclass(frozen=True, slots=True)
class Cost:
    """Worst-case foreign memory, in bytes, measured: per dial and per open stream."""

    dial: int
    stream: int


@dataclass(frozen=True, slots=True)
class ServerEntry:
    """One server as a transport needs it.

    ``link`` is the canonical share link and holds the secret; neither it nor ``settings`` (the
    transport's own frozen value) appears in ``repr``.
    """

    transport: str
    host: str
    port: int
    name: str
    link: str = field(repr=False)
    settings: object = field(repr=False)

    @property
    def id(self) -> str:
        """A short stable name without secrets: the same link gives the same id."""
        address = self.link.partition("#")[0]
        return hashlib.sha256(address.encode()).hexdigest()[:10]


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


@dataclass(frozen=True, slots=True)
class CarrierStatus:
    """One carrier of a bonded tunnel: ``kind`` as in "tls IPv6", ``state`` as that of a tunnel."""

    kind: str
    state: str
    rtt_ms: float
    bytes_up: int
    bytes_down: int


class Tunnel(ABC):
    """Opens streams to destinations on the free side.

    ``replies`` is True where ``open`` fails if the destination cannot be reached; elsewhere
    it returns as soon as the server was reached, and a bad destination shows as an early end.
    ``resumes`` is True where streams outlive the loss of every connection for a while: silence
    alone then condemns the tunnel only after a minute.
    """

    replies: bool = False
    resumes: bool = False

    @abstractmethod
    async def open(self, destination: Destination) -> ByteStream:
        """Open a stream; raises DialError, HandshakeError, DestinationError."""

    @property
    def carriers(self) -> Sequence[CarrierStatus]:
        """The connections that its streams share, for ``status``, if they share any."""
        return ()

    def revalidate(self) -> None:  # noqa: B027 - most tunnels hold nothing between streams
        """The network changed: what is connected may be dead without a sign."""

    async def aclose(self) -> None:  # noqa: B027 - as above
        """Let go of what the tunnel itself holds; open streams are not touched."""


class Transport(ABC):
    """A way to reach a server; one per protocol."""

    name: str
    schemes: tuple[str, ...]
    cost: Cost

    @abstractmethod
    def parse(self, link: str) -> ServerEntry:
        """Read a share link; raises LinkError or UnsupportedError, never a silent downgrade."""

    @abstractmethod
    def privacy(self, entry: ServerEntry) -> Privacy:
        """What a watcher of the connection to this server can see."""

    def warnings(self, entry: ServerEntry) -> Sequence[str]:  # noqa: ARG002 - most have none
        """What the user gave up by name in this link, for ``status``."""
        return ()

    @abstractmethod
    async def connect(self, entry: ServerEntry, dialer: NetworkDialer, account: Account) -> Tunnel:
        """Make a tunnel; raises DialError or HandshakeError."""


@dataclass(slots=True)
class Fetch:
    """One try of one source.

    ``source`` is a URL. ``notes`` are small, and kept for this source until the next try: an
    ETag, for example.
    """

    source: str
    dialer: Dialer
    account: Account
    notes: dict[str, str] = field(default_factory=dict)


class Channel(ABC):
    """A way to fetch a bundle of server entries.

    ``schemes`` are those of the sources that it reads. ``cost.dial`` is what one fetch holds
    outside the arena, at most. ``tier``: 0 is cheap and quiet and is tried first, 2 is costly or
    easily noticed. ``watch``: seconds after which its sources are looked at again even though
    nothing is missing, because that is cheap and seen by nobody; 0 for never.
    """

    name: str
    schemes: tuple[str, ...]
    cost: Cost
    tier: int = 1
    watch: float = 0.0

    @abstractmethod
    def check(self, source: str) -> None:
        """Raise LinkError when ``source`` cannot be used, saying what is wrong with it."""

    @abstractmethod
    def fetch(self, fetch: Fetch) -> AsyncGenerator[bytes, None]:
        """Bundles that are at the source, the most likely first.

        None of them is trusted: the caller tries one after the other, stops at the first that
        verifies and closes the iterator. Raises ChannelError.
        """


@dataclass(frozen=True, slots=True)
class CarrierPipe:
    """A pipe to a relay, encrypted to the relay's own key.

    ``binding`` is that of the innermost secure channel (``SecureStream.channel_binding``): both
    ends know it, and no other pipe has it.
    """

    stream: ByteStream
    binding: bytes


class Carrier(ABC):
    """A way to reach a relay; its pipes are bonded into one session."""

    name: str
    cost: Cost

    @abstractmethod
    async def connect(self, entry: ServerEntry, dialer: Dialer, account: Account) -> CarrierPipe:
        """A pipe to the relay; raises DialError or HandshakeError.

        ``dialer`` is straight, or goes through other tunnels that are up.
        """
