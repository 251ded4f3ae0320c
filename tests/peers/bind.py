"""BIND, as an operator runs it: one zone from a file, over UDP, TCP and TLS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.peers.certificates import Certificate
from tests.peers.process import Process, free_port

HOST = "127.0.0.1"
CONFIG = """
tls near {{ cert-file "{chain}"; key-file "{key}"; }};
options {{
    directory "{folder}";
    pid-file none;
    session-keyfile none;
    managed-keys-directory "{folder}";
    listen-on port {port} {{ {host}; }};
    listen-on port {tls} tls near {{ {host}; }};
    listen-on port {http} tls none http default {{ {host}; }};
    listen-on-v6 {{ none; }};
    recursion no;
    notify no;
}};
controls {{ }};
zone "{zone}" {{ type primary; file "{file}"; }};
"""
# DNS over HTTPS as the BIND handbook has it behind nginx: BIND itself speaks HTTP/2 only.
DOH = """
        location /dns-query {{ grpc_pass grpc://127.0.0.1:{port}; }}
"""


@dataclass(frozen=True, slots=True)
class Bind:
    """A running BIND: its ports for UDP and TCP, for TLS, and for HTTP/2 without TLS."""

    port: int
    tls: int
    http: int


@contextmanager
def bind(folder: Path, certificate: Certificate, zone: str, zone_text: str) -> Iterator[Bind]:
    """Serve a zone."""
    ports = Bind(free_port(), free_port(), free_port())
    file = folder / "zone"
    file.write_text(zone_text)
    config = folder / "named.conf"
    config.write_text(
        CONFIG.format(
            chain=certificate.chain,
            key=certificate.key,
            folder=folder,
            host=HOST,
            zone=zone,
            file=file,
            port=ports.port,
            tls=ports.tls,
            http=ports.http,
        )
    )
    command = ["named", "-g", "-n", "1", "-c", str(config)]
    with Process(command, folder / "named.log") as process:
        for port in (ports.port, ports.tls, ports.http):
            process.await_port(port)
        yield ports
