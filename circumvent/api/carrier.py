"""Carriers: what makes pipes to a relay."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from circumvent.api.cost import Cost
from circumvent.api.dialer import Dialer
from circumvent.api.streams import ByteStream
from circumvent.api.transport import ServerEntry
from circumvent.memory import Account


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
