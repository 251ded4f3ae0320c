"""Transports: what turns a server entry into a tunnel."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from circumvent.api.cost import Cost
from circumvent.api.dialer import NetworkDialer
from circumvent.api.tunnel import Tunnel
from circumvent.memory import Account


class Privacy(IntEnum):
    """What an observer between us and the server can see; the race never goes below the floor.

    UNVERIFIED is encrypted by TLS that checks neither an authority nor a pin: the server is whoever
    answered first. The key that it showed then is remembered, and another one is refused.
    """

    DIRECT = 0
    PLAIN = 1
    UNVERIFIED = 2
    ENCRYPTED = 3


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


class Transport(ABC):
    """A way to reach a server; one per protocol."""

    name: str
    schemes: tuple[str, ...]

    @abstractmethod
    def parse(self, link: str) -> ServerEntry:
        """Read a share link; raises LinkError or UnsupportedError, never a silent downgrade."""

    @abstractmethod
    def privacy(self, entry: ServerEntry) -> Privacy:
        """What an observer of the connection to this server can see."""

    def warnings(self, entry: ServerEntry) -> Sequence[str]:  # noqa: ARG002 - most have none
        """What the user gave up with this link, for ``status``."""
        return ()

    @abstractmethod
    def cost(self, entry: ServerEntry) -> Cost:
        """The most that a dial to this server, and a stream, allocate outside of the arena.

        The sum of the costs of the layers that they go through.
        """

    @abstractmethod
    async def connect(self, entry: ServerEntry, dialer: NetworkDialer, account: Account) -> Tunnel:
        """Make a tunnel; raises DialError or HandshakeError."""
