"""What test servers speak, and how one tells a client about them."""

import base64
import secrets
import uuid
from dataclasses import dataclass
from urllib.parse import urlencode

from tests.peers.certificates import SERVER_NAME, Certificate
from tests.peers.process import Process

HOST = "127.0.0.1"
FAR_NAME = "site.far.test"  # every server knows it as FAR_ADDRESS, nothing else knows it
FAR_ADDRESS = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Service:
    """A transport, over TLS or not, a carriage, and for Shadowsocks a cipher.

    ``early``: bytes that may go with the request of a carriage, before it is answered.
    """

    transport: str
    cipher: str = ""
    tls: bool = False
    carriage: str = ""
    early: int = 0

    @property
    def over(self) -> str:
        """What it goes over, or the cipher: for names and tables."""
        if self.cipher:
            return self.cipher
        early = f"{self.carriage} with early data" if self.early else self.carriage
        return " + ".join(filter(None, ("tls" if self.tls else "tcp", early)))

    def new_secret(self) -> str:
        """A password, or for VLESS a UUID."""
        return str(uuid.uuid4()) if self.transport == "vless" else secrets.token_urlsafe(16)


SHADOWSOCKS = tuple(
    Service("shadowsocks", cipher)
    for cipher in ("aes-128-gcm", "aes-256-gcm", "chacha20-ietf-poly1305")
)
TROJAN = Service("trojan", tls=True)
VLESS = Service("vless")
VLESS_TLS = Service("vless", tls=True)
TROJAN_PLAIN = Service("trojan")
WEBSOCKET, HTTP_UPGRADE, HTTP_HEADER = "ws", "httpupgrade", "http header"
PATH = "/a/path"


def carried(carriage: str, early: int = 0) -> tuple[Service, ...]:
    """Trojan and VLESS over ``carriage``, with TLS and without."""
    return tuple(
        Service(transport, tls=tls, carriage=carriage, early=early)
        for transport in ("trojan", "vless")
        for tls in (False, True)
    )


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One service on one port of ``host``, before anything listens there."""

    service: Service
    port: int
    secret: str
    certificate: Certificate
    host: str = HOST

    @property
    def link(self) -> str:
        """The share link; TLS is trusted by the certificate's pin."""
        address = f"{self.host}:{self.port}"
        if self.service.transport == "shadowsocks":
            user = base64.urlsafe_b64encode(f"{self.service.cipher}:{self.secret}".encode())
            return f"ss://{user.decode().rstrip('=')}@{address}"
        return f"{self.service.transport}://{self.secret}@{address}?{urlencode(self._query())}"

    def _query(self) -> dict[str, str]:
        query = {"security": "tls" if self.service.tls else "none", **self._carriage()}
        if self.service.tls:
            query |= {"sni": SERVER_NAME, "pinSHA256": self.certificate.sha256}
        if self.service.transport == "vless":
            query["encryption"] = "none"
        return query

    def _carriage(self) -> dict[str, str]:
        carriage = self.service.carriage
        if not carriage:
            return {"type": "tcp"}
        kind = (
            {"type": "tcp", "headerType": "http"} if carriage == HTTP_HEADER else {"type": carriage}
        )
        early = f"?ed={self.service.early}" if self.service.early else ""
        return {**kind, "host": SERVER_NAME, "path": PATH + early}


@dataclass(frozen=True, slots=True)
class Server:
    """A running third-party server."""

    peer: str
    endpoint: Endpoint
    process: Process

    @property
    def link(self) -> str:
        """Its share link."""
        return self.endpoint.link
