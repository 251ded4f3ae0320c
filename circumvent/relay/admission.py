"""What a right knock leaves behind: the request that carried it, and its connection."""

from __future__ import annotations

from dataclasses import dataclass

from circumvent.api.streams import ByteStream
from circumvent.wire.knock import Knock
from circumvent.wire.request_watch import RequestHead


@dataclass(frozen=True, slots=True)
class Admission:
    """A right knock, the head of its request, and the bytes that came after that head."""

    knock: Knock
    head: RequestHead
    early: bytes


@dataclass(frozen=True, slots=True)
class KnockedConnection:
    """A connection that has knocked.

    ``binding`` is the channel binding of its TLS (RFC 9266), empty where TLS ended at a web
    server in front of the relay. ``network`` is the network of the other end.
    """

    stream: ByteStream
    network: str
    binding: bytes
    admission: Admission
