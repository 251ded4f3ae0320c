"""How an inbound is set up, and what is refused before it listens."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from hmac import compare_digest

from circumvent.errors import ConfigError
from circumvent.net.listener import RETRY_SECONDS
from circumvent.net.sockets import SocketBuffers

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 1080  # registered for SOCKS
LOCALHOST = "localhost"

# Two descriptors per client; where the system allows 1024, accepting pauses before that.
MAX_CLIENTS = 1000
# On loopback or a home network, a real client does not need longer for a few hundred bytes.
HANDSHAKE_SECONDS = 10.0
# Browsers send less than 8 KiB; IIS and Node.js draw the line here as well.
MAX_HEAD = 16 * 1024
# Waiting mail clients send something every 29 minutes (RFC 2177); little else is quieter.
IDLE_SECONDS = 30 * 60.0


@dataclass(frozen=True, slots=True)
class Credentials:
    """The user name and password that a client must give."""

    username: str
    password: str = field(repr=False)

    def match(self, username: bytes, password: bytes) -> bool:
        """Whether these are the right ones; compares in constant time."""
        right_username = compare_digest(username, self.username.encode())
        right_password = compare_digest(password, self.password.encode())
        return right_username and right_password


@dataclass(frozen=True, slots=True)
class InboundTimings:
    """How long an inbound waits for what; seconds.

    ``look``: how late it notices that a client left. ``linger``: for the last reply to arrive; the
    client has long got it or is gone. ``delivery``: some clients send a file and close; what they
    sent goes on its way until it has not moved for so long. ``half_closed``: for a client on
    another machine that ended its side and then sent nothing, which may mean that it is gone;
    most servers and proxies give up an answer after one minute. ``answer_head``: for the rest of
    an answer's head that has begun. ``accept_again``: until it accepts again when the process has
    no descriptors left.
    """

    look: float = 0.5
    linger: float = 2.0
    delivery: float = 3.0
    half_closed: float = 120.0
    answer_head: float = 60.0
    accept_again: float = RETRY_SECONDS


@dataclass(frozen=True, slots=True)
class InboundOptions:
    """Where to listen, whom to let in and how far; times in seconds, sizes in bytes.

    Raises ConfigError for an address that is none, and for one that others can reach while no
    password protects it.
    """

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    credentials: Credentials | None = None
    max_clients: int = MAX_CLIENTS
    handshake_seconds: float = HANDSHAKE_SECONDS
    max_head: int = MAX_HEAD
    idle_seconds: float = IDLE_SECONDS
    buffers: SocketBuffers = field(default_factory=SocketBuffers)
    timings: InboundTimings = field(default_factory=InboundTimings)

    def __post_init__(self) -> None:
        if self.credentials is None and not all(map(_is_loopback, self.addresses)):
            raise ConfigError(
                f"listening on {self.host} lets others in: set a user name and a password for"
                f" the local port, or listen on {DEFAULT_HOST}",
                stage="listen",
            )

    @property
    def addresses(self) -> tuple[str, ...]:
        """The IP addresses to listen on."""
        if self.host == LOCALHOST:
            return ("127.0.0.1", "::1")
        return (self.host,)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise ConfigError(
            f"cannot listen on {host!r}: give an IP address or {LOCALHOST}", stage="listen"
        ) from None
