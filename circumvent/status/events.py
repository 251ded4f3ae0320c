"""Events of the running client, for people (``str``) and for programs (fields)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Listening:
    """The local port is open; ``address`` is ``host:port``."""

    address: str

    def __str__(self) -> str:
        return f"listening on {self.address} (SOCKS5, SOCKS4a and HTTP)"


@dataclass(frozen=True, slots=True)
class Racing:
    """Candidates are being tried."""

    servers: int

    def __str__(self) -> str:
        return f"racing {self.servers} server{'s' * (self.servers != 1)}…"


@dataclass(frozen=True, slots=True)
class Hunting:
    """Sources are being asked for servers."""

    sources: int

    def __str__(self) -> str:
        return f"asking {self.sources} source{'s' * (self.sources != 1)} for servers…"


@dataclass(frozen=True, slots=True)
class Discovered:
    """A source brought a bundle that verifies; ``source`` names no secret."""

    source: str
    version: int
    entries: int
    ms: float

    def __str__(self) -> str:
        return (
            f"{self.entries} server{'s' * (self.entries != 1)} from {self.source}"
            f" (list {self.version}, {self.ms:.0f} ms)"
        )


@dataclass(frozen=True, slots=True)
class DiscoveryFailed:
    """No source brought a bundle; ``reasons`` say for each what went wrong."""

    reasons: tuple[str, ...]

    def __str__(self) -> str:
        lines = "".join(f"\n  {reason}" for reason in self.reasons)
        return f"no source has servers for you now; they are asked again. What was tried:{lines}"


@dataclass(frozen=True, slots=True)
class NoneUp:
    """A race had no winner; ``reason`` is that of the last failure, ``seconds`` till the next."""

    failed: int
    reason: str
    seconds: float

    def __str__(self) -> str:
        return (
            f"no tunnel yet: {self.failed} attempt{'s' * (self.failed != 1)} failed, the last"
            f" with: {self.reason}; trying again in {max(1, round(self.seconds))} s"
            " (more with: circumvent why)"
        )


@dataclass(frozen=True, slots=True)
class TunnelUp:
    """A tunnel was proved by a probe; ``server`` is an entry's id."""

    transport: str
    server: str
    name: str
    ms: float

    def __str__(self) -> str:
        return f"tunnel up: {self.transport} {self.server} ({self.ms:.0f} ms)"


@dataclass(frozen=True, slots=True)
class LastResort:
    """A tunnel that no probe proved is used, for nothing better is there; ``reason`` says why."""

    transport: str
    server: str
    name: str
    reason: str

    def __str__(self) -> str:
        return f"last resort: {self.transport} {self.server} ({self.reason})"


@dataclass(frozen=True, slots=True)
class TunnelLost:
    """A tunnel is not used any more; ``reason`` names no secret and no visited host."""

    transport: str
    server: str
    name: str
    reason: str

    def __str__(self) -> str:
        return f"tunnel lost: {self.transport} {self.server} ({self.reason})"


@dataclass(frozen=True, slots=True)
class Draining:
    """No new clients; open streams may end until ``seconds`` have passed."""

    streams: int
    seconds: float

    def __str__(self) -> str:
        if not self.streams:
            return "stopping"
        return (
            f"stopping: waiting up to {self.seconds:.0f} s for {self.streams} open"
            f" stream{'s' * (self.streams != 1)}; press Ctrl-C again to stop at once"
        )


@dataclass(frozen=True, slots=True)
class Warned:
    """Something that the user should know."""

    text: str

    def __str__(self) -> str:
        return f"warning: {self.text}"


Event = (
    Listening
    | Hunting
    | Discovered
    | DiscoveryFailed
    | Racing
    | NoneUp
    | TunnelUp
    | LastResort
    | TunnelLost
    | Draining
    | Warned
)
Events = Callable[[Event], None]
