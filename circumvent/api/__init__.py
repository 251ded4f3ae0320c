"""All that a plugin may import: contracts, streams, helpers, hooks and errors."""

from circumvent.api.carrier import Carrier, CarrierPipe
from circumvent.api.channel import Channel, Fetch
from circumvent.api.cost import Cost
from circumvent.api.dialer import Dialer, NetworkDialer, TlsOptions, WebSocketOptions
from circumvent.api.hooks import hookimpl
from circumvent.api.packets import Datagrams
from circumvent.api.streams import ByteStream, HeaderStream, LayerStream, PeekStream, SecureStream
from circumvent.api.transport import Privacy, ServerEntry, Transport
from circumvent.api.tunnel import CarrierStatus, Tunnel
from circumvent.errors import (
    ChannelError,
    CircumventError,
    DestinationError,
    DialError,
    HandshakeError,
    LinkError,
    ProtocolError,
    Reason,
    RemoteError,
    StreamResetError,
    UnsupportedError,
    Verdict,
)
from circumvent.memory import Account, Lease

__all__ = [
    "Account",
    "ByteStream",
    "Carrier",
    "CarrierPipe",
    "CarrierStatus",
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
    "RemoteError",
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
