"""All that a plugin may import: contracts, streams, helpers, hooks and errors."""

from circumvent.api.contracts import (
    Carrier,
    Channel,
    Cost,
    Dialer,
    Privacy,
    ServerEntry,
    TlsOptions,
    Transport,
    Tunnel,
)
from circumvent.api.hooks import hookimpl
from circumvent.api.streams import ByteStream, HeaderStream, LayerStream, PeekStream, SecureStream
from circumvent.errors import (
    DestinationError,
    DialError,
    HandshakeError,
    LinkError,
    ProtocolError,
    Reason,
    StreamResetError,
    UnsupportedError,
)
from circumvent.memory import Account, Lease

__all__ = [
    "Account",
    "ByteStream",
    "Carrier",
    "Channel",
    "Cost",
    "DestinationError",
    "DialError",
    "Dialer",
    "HandshakeError",
    "HeaderStream",
    "LayerStream",
    "Lease",
    "LinkError",
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
    "hookimpl",
]
