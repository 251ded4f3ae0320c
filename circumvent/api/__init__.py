"""The contracts that plugins fulfil and use, their hooks, and the errors that they raise."""

from circumvent.api.carrier import Carrier, CarrierPipe
from circumvent.api.channel import Channel, Fetch
from circumvent.api.cost import Cost
from circumvent.api.dialer import Dialer, DialerWrapper, NetworkDialer
from circumvent.api.hooks import hookimpl
from circumvent.api.layer import Dial, HeaderStream, Layer, LayerStream, StreamLayer
from circumvent.api.packets import Datagrams, PacketPipe
from circumvent.api.streams import ByteStream, PeekStream, Route, SecureStream, TlsEngine
from circumvent.api.tls import TlsOptions
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
    "Dial",
    "DialError",
    "Dialer",
    "DialerWrapper",
    "Fetch",
    "HandshakeError",
    "HeaderStream",
    "Layer",
    "LayerStream",
    "Lease",
    "LinkError",
    "NetworkDialer",
    "PacketPipe",
    "PeekStream",
    "Privacy",
    "ProtocolError",
    "Reason",
    "RemoteError",
    "Route",
    "SecureStream",
    "ServerEntry",
    "StreamLayer",
    "StreamResetError",
    "TlsEngine",
    "TlsOptions",
    "Transport",
    "Tunnel",
    "UnsupportedError",
    "Verdict",
    "hookimpl",
]
