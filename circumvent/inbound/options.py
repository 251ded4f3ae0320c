"""How the front door is set up, and what is refused before it opens."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from hmac import compare_digest

from circumvent.errors import ConfigError
from circumvent.net.sockets import SocketBuffers
from circumvent.wire.address import MAX_PORT

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 1080  # registered for SOCKS
LOCALHOST = "localhost"

# Two descriptors per client; where the system allows 1024, accepting pauses before that.
MAX_CLIENTS = 1000
# Loopback or a home network: a client that needs longer for some hundred bytes is none.
HANDSHAKE_SECONDS = 10.0
# Browsers send less than 8 KiB; IIS and Node.js draw the line here as well.
MAX_HEAD = 16 * 1024
# Waiting mail clients speak every 29 minutes (RFC 2177); hardly anything alive is quieter.
IDLE_SECONDS = 30 * 60.0


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client has to show."""

    username: str
    password: str = field(repr=False)

    def match(self, username: bytes, password: bytes) -> bool:
        """Compare in constant time."""
        right_username = compare_digest(username, self.username.encode())
        right_password = compare_digest(password, self.password.encode())
        return right_username and right_password


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

    def __post_init__(self) -> None:
        if self.credentials is None and not all(map(_is_loopback, self.addresses)):
            raise ConfigError(
                f"listening on {self.host} lets others in: set a user name and a password for"
                f" the front door, or listen on {DEFAULT_HOST}",
                stage="listen",
            )

    @property
    def addresses(self) -> tuple[str, ...]:
        """The IP addresses to listen on."""
        if self.host == LOCALHOST:
            return ("127.0.0.1", "::1")
        return (self.host,)


def parse_listen(text: str) -> tuple[str, int]:
    """Read ``HOST:PORT``: an IP address (IPv6 in brackets) or localhost; raises ConfigError."""
    host, separator, port = text.strip().lower().rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not separator or not (port.isascii() and port.isdigit()) or int(port) > MAX_PORT:
        raise ConfigError(f"cannot listen on {text!r}: write HOST:PORT", stage="listen")
    if (":" in host) != bracketed:
        raise ConfigError(f"cannot listen on {text!r}: write [IPv6]:PORT", stage="listen")
    return host.strip("[]"), int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise ConfigError(
            f"cannot listen on {host!r}: give an IP address or {LOCALHOST}", stage="listen"
        ) from None
