"""What test servers speak, and how one tells a client about them."""

import base64
import hashlib
import secrets
import uuid
from dataclasses import dataclass
from urllib.parse import urlencode

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from circumvent.wire.base64url import encode_base64url
from tests.peers.certificates import SERVER_NAME, Certificate
from tests.peers.process import Process

HOST = "127.0.0.1"
FAR_NAME = "site.far.test"  # every server knows it as FAR_ADDRESS, nothing else knows it
FAR_ADDRESS = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Service:
    """A transport, its security if any, a carriage, and for Shadowsocks a cipher.

    ``early``: bytes that may go with the request of a carriage, before it is answered.
    """

    transport: str
    cipher: str = ""
    security: str = ""
    carriage: str = ""
    early: int = 0
    flow: str = ""

    @property
    def over(self) -> str:
        """What it goes over, or the cipher: for names and tables."""
        if self.cipher:
            return self.cipher
        early = f"{self.carriage} with early data" if self.early else self.carriage
        flow = "vision" if self.flow else ""
        return " + ".join(filter(None, (self.security or "tcp", flow, early)))

    def new_secret(self) -> str:
        """A password, or for VLESS a UUID."""
        return str(uuid.uuid4()) if self.transport == "vless" else secrets.token_urlsafe(16)


SHADOWSOCKS = tuple(
    Service("shadowsocks", cipher)
    for cipher in ("aes-128-gcm", "aes-256-gcm", "chacha20-ietf-poly1305")
)
TLS, REALITY = "tls", "reality"
VISION = "xtls-rprx-vision"
TROJAN = Service("trojan", security=TLS)
VLESS = Service("vless")
VLESS_TLS = Service("vless", security=TLS)
VLESS_VISION = Service("vless", security=TLS, flow=VISION)
TROJAN_PLAIN = Service("trojan")
TROJAN_REALITY = Service("trojan", security=REALITY)
VLESS_REALITY = Service("vless", security=REALITY)
VLESS_REALITY_VISION = Service("vless", security=REALITY, flow=VISION)
WEBSOCKET, HTTP_UPGRADE, HTTP_HEADER = "ws", "httpupgrade", "http header"
VLESS_WEBSOCKET = Service("vless", carriage=WEBSOCKET)
VLESS_WEBSOCKET_TLS = Service("vless", security=TLS, carriage=WEBSOCKET)
PATH = "/a/path"
WEB_NAME = "web.near.test"  # the Host of requests, which need not be the name that TLS shows
SHORT_ID = "0123456789abcdef"


def carried(
    carriage: str, early: int = 0, securities: tuple[str, ...] = ("", TLS)
) -> tuple[Service, ...]:
    """Trojan and VLESS over ``carriage``, with each security."""
    return tuple(
        Service(transport, security=security, carriage=carriage, early=early)
        for transport in ("trojan", "vless")
        for security in securities
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
    def reality_key(self) -> X25519PrivateKey:
        """The server's key of REALITY, made of the secret: so one value tells both sides all."""
        seed = hashlib.sha256(self.secret.encode()).digest()
        return X25519PrivateKey.from_private_bytes(seed)

    @property
    def link(self) -> str:
        """The share link; TLS is trusted by the certificate's pin."""
        address = f"{self.host}:{self.port}"
        if self.service.transport == "shadowsocks":
            user = base64.urlsafe_b64encode(f"{self.service.cipher}:{self.secret}".encode())
            return f"ss://{user.decode().rstrip('=')}@{address}"
        return f"{self.service.transport}://{self.secret}@{address}?{urlencode(self._query())}"

    def _query(self) -> dict[str, str]:
        query = {"security": self.service.security or "none", **self._carriage()}
        if self.service.security == TLS:
            query |= {"sni": SERVER_NAME, "pinSHA256": self.certificate.sha256}
        if self.service.security == REALITY:
            public = self.reality_key.public_key().public_bytes_raw()
            query |= {"sni": SERVER_NAME, "pbk": encode_base64url(public), "sid": SHORT_ID}
        if self.service.flow:
            query["flow"] = self.service.flow
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
        return {**kind, "host": WEB_NAME, "path": PATH + early}


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
