"""The typed contents of ``relay.toml`` and ``users.toml``."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from circumvent.net.listener import parse_listen
from circumvent.net.sockets import SocketBuffers
from circumvent.relay.values import parse_key, parse_place, parse_ports
from circumvent.typed_toml import parse_size
from circumvent.wire.address import Destination
from circumvent.wire.credential import TOKEN_SIZE
from circumvent.wire.knock import KNOCK_KEY_SIZE

MAX_KEYS = 4  # knock keys; each of them costs every request some microseconds
LEAST_RATE = 16 * 1024  # bytes per second, with which a page still loads

Count = Annotated[int, Meta(ge=1)]


class RelayTlsSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """TLS on the port: disabled behind a web server, with a certificate, or self-signed."""

    enabled: bool = True
    certificate: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        if bool(self.certificate) is not bool(self.key):
            raise ValueError("certificate and key belong together: set both or none")


class WebSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The web server or CDN in front that passes requests on to the relay."""

    address: str = ""
    host: str = ""
    path: str = "/"


class RelayLimits(Struct, frozen=True, forbid_unknown_fields=True):
    """The limits of one user; ``rate`` is a size per second, for each direction."""

    sessions: Count = 4
    streams: Count = 512
    rate: str = ""

    def __post_init__(self) -> None:
        if self.rate:
            parse_size("rate", self.rate, LEAST_RATE)

    @property
    def bytes_per_second(self) -> int:
        """The rate; 0 means no limit."""
        return parse_size("rate", self.rate, LEAST_RATE) if self.rate else 0


class EgressSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Which destinations users may reach."""

    allow_private: bool = False
    allow_neighbours: bool = False
    refused_ports: tuple[str, ...] = ("25", "135-139", "445")
    nameservers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for ports in self.refused_ports:
            parse_ports(ports)

    @property
    def refused(self) -> tuple[range, ...]:
        """The refused ports."""
        return tuple(map(parse_ports, self.refused_ports))


class RelayConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of ``relay.toml``; ``docs/relay.md`` explains each key."""

    listen: str
    public: str
    knock_keys: Annotated[tuple[str, ...], Meta(min_length=1, max_length=MAX_KEYS)]
    name: str = ""
    cover: str = "site"
    carriers: Annotated[tuple[str, ...], Meta(min_length=1)] = ("tls",)
    server_name: str = ""
    memory: str = "256 MiB"
    visitors: Count = 500
    drain_seconds: Annotated[float, Meta(ge=0)] = 30.0
    metrics: str = ""
    tls: RelayTlsSettings = RelayTlsSettings()
    web: WebSettings = WebSettings()
    limits: RelayLimits = RelayLimits()
    egress: EgressSettings = EgressSettings()

    def __post_init__(self) -> None:
        parse_listen(self.listen)
        parse_size("memory", self.memory)
        parse_place("public", self.public)
        for key in self.knock_keys:
            parse_key("knock_keys", key, KNOCK_KEY_SIZE)
        if self.web.address:
            parse_place("web.address", self.web.address)
        if self.metrics:
            parse_listen(self.metrics)
        if "tls" in self.carriers and not self.tls.enabled:
            raise ValueError('carriers: "tls" needs TLS to end here; remove it')

    @property
    def listen_address(self) -> Destination:
        """Where to listen."""
        return Destination(*parse_listen(self.listen))

    @property
    def metrics_address(self) -> Destination | None:
        """Where metrics are served, if they are."""
        return Destination(*parse_listen(self.metrics)) if self.metrics else None

    @property
    def public_address(self) -> Destination:
        """Where users reach the relay."""
        return parse_place("public", self.public)

    @property
    def web_address(self) -> Destination | None:
        """Where users reach the web server in front, if there is one."""
        return parse_place("web.address", self.web.address) if self.web.address else None

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The knock keys; the first one is in new invites."""
        return tuple(parse_key("knock_keys", key, KNOCK_KEY_SIZE) for key in self.knock_keys)

    @property
    def memory_bytes(self) -> int:
        """The memory budget in bytes."""
        return parse_size("memory", self.memory)

    @property
    def socket_buffers(self) -> SocketBuffers:
        """The kernel's buffers of each socket."""
        return SocketBuffers.beside(self.memory_bytes)


class UserEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """One user; ``limits`` replace those of the relay."""

    name: str
    token: str
    limits: RelayLimits | None = None

    def __post_init__(self) -> None:
        parse_key("token", self.token, TOKEN_SIZE)

    @property
    def raw_token(self) -> bytes:
        """The token's bytes."""
        return parse_key("token", self.token, TOKEN_SIZE)


class UsersFile(Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of ``users.toml``. Each relay has its own users.

    A token that is in the files of two relays opens both of them.
    """

    users: tuple[UserEntry, ...] = ()

    def __post_init__(self) -> None:
        names = [user.name for user in self.users]
        tokens = [user.token for user in self.users]
        if len(set(names)) < len(names) or len(set(tokens)) < len(tokens):
            raise ValueError("users: two have the same name or token; change one")
