"""All that a plugin may import: contracts, streams, helpers, hooks and errors."""

from circumvent.api.contracts import (
    Carrier,
    Channel,
    Cost,
    Dialer,
    Fetch,
    NetworkDialer,
    Privacy,
    ServerEntry,
    TlsOptions,
    Transport,
    Tunnel,
    WebSocketOptions,
)
from circumvent.api.datagrams import Datagrams
from circumvent.api.hooks import hookimpl
from circumvent.api.streams import ByteStream, HeaderStream, LayerStream, PeekStream, SecureStream
from circumvent.errors import (
    ChannelError,
    CircumventError,
    DestinationError,
    DialError,
    HandshakeError,
    LinkError,
    ProtocolError,
    Reason,
    StreamResetError,
    UnsupportedError,
    Verdict,
)
from circumvent.memory import Account, Lease

__all__ = [
    "Account",
    "ByteStream",
    "Carrier",
    "Channel",
    "ChannelError",
    "CircumventError",
    "Cost",
    "Datagrams",
    "DestinationError",
    "DialError",
    "Dialer",
    "Fetch",
    "HandshakeError",
    "HeaderStream",
    "LayerStream",
    "Lease",
    "LinkError",
    "NetworkDialer",
    "PeekStream",
    "Privacy",
    "ProtocolError",
    "Reason",
    "SecureStream",
    "ServerEntry",
    "StreamResetError",
    "TlsOptions",
    "Transport",
    "Tunnel",
    "UnsupportedError",
    "Verdict",
    "WebSocketOptions",
    "hookimpl",
]
