"""Real third-party servers, each on a free port of 127.0.0.1; context managers.

Each resolves FAR_NAME by itself: sing-box and v2ray by their own DNS, the others by a hosts file
that only they see.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

from tests.peers import mihomo, sing_box
from tests.peers.certificates import SERVER_NAME, Certificate
from tests.peers.haproxy import haproxy
from tests.peers.nginx import SITE, nginx, nginx_site
from tests.peers.process import Process, free_port, with_file_over
from tests.peers.services import (
    FAR_ADDRESS,
    FAR_NAME,
    HOST,
    HTTP_HEADER,
    HTTP_UPGRADE,
    PATH,
    REALITY,
    SHADOWSOCKS,
    TLS,
    TROJAN,
    TROJAN_PLAIN,
    TROJAN_REALITY,
    VLESS,
    VLESS_REALITY,
    VLESS_REALITY_VISION,
    VLESS_TLS,
    VLESS_VISION,
    WEB_NAME,
    WEBSOCKET,
    Endpoint,
    Server,
    Service,
    carried,
)

ServerMaker = Callable[[Service, Path, Certificate], AbstractContextManager[Server]]


@contextmanager
def sing_box_server(service: Service, folder: Path, certificate: Certificate) -> Iterator[Server]:
    """sing-box, from its PyPI package: every service."""
    endpoint = new_endpoint(service, certificate)
    config = _write(folder, "sing-box", sing_box.server_config(endpoint))
    with _serve("sing-box", endpoint, [*sing_box.command(), str(config)], folder) as server:
        yield server


@contextmanager
def mihomo_server(service: Service, folder: Path, certificate: Certificate) -> Iterator[Server]:
    """mihomo, from its PyPI package: Trojan and VLESS; REALITY borrows from an nginx."""
    place = _new_folder(folder, "site")
    borrows = service.security == REALITY
    with (
        nginx_site(place, certificate, place, free_port()) if borrows else nullcontext(0) as site,
        mihomo_beside(site, new_endpoint(service, certificate), folder) as server,
    ):
        yield server


@contextmanager
def mihomo_beside(
    site: int, endpoint: Endpoint, folder: Path, **security: object
) -> Iterator[Server]:
    """mihomo at that endpoint, with further settings; REALITY borrows the site at that port."""
    config = mihomo.server_config(endpoint, f"{HOST}:{site}", **security)
    home, file = _new_folder(folder, "mihomo"), _write(folder, "mihomo", config)
    command = [*mihomo.command(home), str(file)]
    with _serve("mihomo", endpoint, command, folder, mihomo.environment()) as server:
        server.process.await_that(lambda: mihomo.carries(config), "carries streams")
        yield server


@contextmanager
def v2ray_server(service: Service, folder: Path, certificate: Certificate) -> Iterator[Server]:
    """v2ray 4, from Debian: every service."""
    endpoint = new_endpoint(service, certificate)
    config = _write(folder, "v2ray", _v2ray_config(endpoint))
    with _serve("v2ray", endpoint, ["v2ray", "-config", str(config)], folder) as server:
        yield server


@contextmanager
def shadowsocks_libev_server(
    service: Service, folder: Path, certificate: Certificate
) -> Iterator[Server]:
    """ss-server of shadowsocks-libev, from Debian: Shadowsocks."""
    endpoint = new_endpoint(service, certificate)
    options = {
        "server": HOST,
        "server_port": endpoint.port,
        "password": endpoint.secret,
        "method": service.cipher,
        "timeout": 300,
    }
    config = _write(folder, "ss-server", options)
    command = _with_far_name(folder, ["ss-server", "-c", str(config), "-v"])
    with _serve("shadowsocks-libev", endpoint, command, folder) as server:
        yield server


@contextmanager
def trojan_server(service: Service, folder: Path, certificate: Certificate) -> Iterator[Server]:
    """The original trojan, from Debian: Trojan."""
    endpoint = new_endpoint(service, certificate)
    options = {
        "run_type": "server",
        "local_addr": HOST,
        "local_port": endpoint.port,
        "remote_addr": HOST,  # where strangers are sent: a closed port
        "remote_port": free_port(),
        "password": [endpoint.secret],
        "ssl": {"cert": str(certificate.chain), "key": str(certificate.key)},
    }
    config = _write(folder, "trojan", options)
    command = _with_far_name(folder, ["trojan", "-c", str(config)])
    with _serve("trojan", endpoint, command, folder) as server:
        yield server


@contextmanager
def sing_box_behind_nginx(
    service: Service, folder: Path, certificate: Certificate
) -> Iterator[Server]:
    """sing-box without TLS at one path of a web site, which is not the one that TLS names."""
    with sing_box_server(replace(service, security=""), folder, certificate) as server:
        location = SITE.format(path=PATH, port=server.endpoint.port, more="")
        sites = {SERVER_NAME: "", WEB_NAME: location}
        with nginx(_new_folder(folder, "nginx"), certificate, sites) as port:
            yield _moved(server, service, port)


@contextmanager
def v2ray_behind_haproxy(
    service: Service, folder: Path, certificate: Certificate
) -> Iterator[Server]:
    """v2ray without TLS, which ends at an HAProxy."""
    with (
        v2ray_server(replace(service, security=""), folder, certificate) as server,
        haproxy(_new_folder(folder, "haproxy"), certificate, server.endpoint.port) as port,
    ):
        yield _moved(server, service, port)


def _moved(server: Server, service: Service, port: int) -> Server:
    """As it is reached through what stands in front of it."""
    return replace(server, endpoint=replace(server.endpoint, service=service, port=port))


ALL: tuple[tuple[str, ServerMaker, Service], ...] = (
    *(
        (peer, maker, service)
        for peer, maker in (("sing-box", sing_box_server), ("v2ray", v2ray_server))
        for service in (*SHADOWSOCKS, TROJAN, TROJAN_PLAIN, VLESS, VLESS_TLS, *carried(WEBSOCKET))
    ),
    *(
        ("sing-box", sing_box_server, service)
        for service in (
            *carried(WEBSOCKET, early=2048),
            *carried(HTTP_UPGRADE, early=2048),
            *(each for each in carried(HTTP_UPGRADE) if each.transport == "vless"),
        )
    ),
    *(
        ("mihomo", mihomo_server, service)
        for service in (
            *(TROJAN, TROJAN_REALITY, VLESS_TLS, VLESS_REALITY, VLESS_VISION, VLESS_REALITY_VISION),
            Service("vless", security=REALITY, carriage=WEBSOCKET),
            *carried(WEBSOCKET, securities=(TLS,)),
            *carried(WEBSOCKET, early=2048, securities=(TLS,)),
            *carried(HTTP_UPGRADE, securities=(TLS,)),
            *carried(HTTP_UPGRADE, early=2048, securities=(TLS,)),
        )
    ),
    ("sing-box", sing_box_server, VLESS_VISION),
    *(
        ("sing-box behind nginx", sing_box_behind_nginx, Service("vless", security=TLS, **carriage))
        for carriage in (
            {"carriage": WEBSOCKET},
            {"carriage": WEBSOCKET, "early": 2048},
            {"carriage": HTTP_UPGRADE},
        )
    ),
    *(
        ("v2ray behind haproxy", v2ray_behind_haproxy, service)
        for service in carried(WEBSOCKET, securities=(TLS,))
    ),
    *(("v2ray", v2ray_server, service) for service in carried(HTTP_HEADER)),
    *(("shadowsocks-libev", shadowsocks_libev_server, service) for service in SHADOWSOCKS),
    ("trojan", trojan_server, TROJAN),
)
"""Every pair of peer and service that the project is tested with.

Not Trojan over an HTTPUpgrade whose answer is waited for: when what follows comes at once, sing-box
1.14 reads the first byte alone, says "bad request size" and closes, whoever the client is.
"""

KEEP_OUR_END = frozenset(
    {
        *(("sing-box", "shadowsocks"), ("sing-box", "trojan"), ("sing-box", "vless")),
        *(("mihomo", "trojan"), ("mihomo", "vless")),
    }
)
KEEP_FAR_END = KEEP_OUR_END - {("sing-box", "shadowsocks")}
"""Peers that pass on the end of one direction and keep the other, by which side ends first.

The others cut both directions whoever the client is: the sing-box client fares the same.
"""
CUT_AT_FAR_END = frozenset(
    {("mihomo", "reality"), ("mihomo", "reality + vision"), ("sing-box", "tls + vision")}
)
"""What those peers cut all the same: there they cannot end one direction."""


def new_endpoint(service: Service, certificate: Certificate) -> Endpoint:
    """One on a free port, with a new secret."""
    return Endpoint(service, free_port(), service.new_secret(), certificate)


@contextmanager
def _serve(
    peer: str,
    endpoint: Endpoint,
    command: Sequence[str],
    folder: Path,
    env: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    with Process(command, folder / f"{peer}-{endpoint.port}.log", env=env) as process:
        process.await_port(endpoint.port)
        yield Server(peer, endpoint, process)


def _write(folder: Path, name: str, config: object) -> Path:
    path = folder / f"{name}-{free_port()}.json"
    path.write_text(json.dumps(config))
    return path


def _new_folder(folder: Path, name: str) -> Path:
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=folder))


def _with_far_name(folder: Path, command: Sequence[str]) -> list[str]:
    hosts = folder / "far-hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{FAR_ADDRESS} {FAR_NAME}\n")
    return with_file_over("/etc/hosts", hosts, command)


def _v2ray_config(endpoint: Endpoint) -> object:
    service = endpoint.service
    inbound: dict[str, object] = {
        "listen": HOST,
        "port": endpoint.port,
        "protocol": service.transport,
        "settings": {
            "shadowsocks": {"method": service.cipher, "password": endpoint.secret},
            "trojan": {"clients": [{"password": endpoint.secret}]},
            "vless": {"clients": [{"id": endpoint.secret}], "decryption": "none"},
        }[service.transport],
    }
    inbound["streamSettings"] = {**_v2ray_security(endpoint), **_v2ray_carriage(service)}
    return {
        "log": {"loglevel": "warning"},
        "dns": {"hosts": {FAR_NAME: FAR_ADDRESS}},
        "inbounds": [inbound],
        "outbounds": [{"protocol": "freedom", "settings": {"domainStrategy": "UseIP"}}],
    }


def _v2ray_security(endpoint: Endpoint) -> dict[str, object]:
    if not endpoint.service.security:
        return {}
    files = {
        "certificateFile": str(endpoint.certificate.chain),
        "keyFile": str(endpoint.certificate.key),
    }
    return {"security": "tls", "tlsSettings": {"certificates": [files]}}


def _v2ray_carriage(service: Service) -> dict[str, object]:
    if service.carriage == WEBSOCKET:
        return {"network": "ws", "wsSettings": {"path": PATH}}
    if service.carriage == HTTP_HEADER:
        header = {"type": "http", "request": {"path": [PATH]}}
        return {"network": "tcp", "tcpSettings": {"header": header}}
    return {}
