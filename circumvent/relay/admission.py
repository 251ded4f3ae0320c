"""What a right knock leaves behind: the request that brought it, and its connection."""

from __future__ import annotations

from dataclasses import dataclass

from circumvent.api.streams import ByteStream
from circumvent.wire.knock import Knock
from circumvent.wire.request_watch import RequestHead


@dataclass(frozen=True, slots=True)
class Admission:
    """Somebody knocked: how, with what request, and what came right behind it."""

    knock: Knock
    head: RequestHead
    early: bytes


@dataclass(frozen=True, slots=True)
class KnockedConnection:
    """A connection whose other end knocked; ``binding`` is empty where TLS ended before us."""

    stream: ByteStream
    network: str
    binding: bytes
    admission: Admission
