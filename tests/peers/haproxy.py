"""HAProxy, as it stands in front of one server: TLS ends here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.peers.certificates import Certificate
from tests.peers.process import Process, free_port

CONFIG = """
defaults
    mode {mode}
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout tunnel 600s
frontend web
    bind 127.0.0.1:{port} ssl crt {pem} alpn http/1.1
    default_backend site
backend site
    server site 127.0.0.1:{server}
"""


@contextmanager
def haproxy(
    folder: Path, certificate: Certificate, server: int, mode: str = "http"
) -> Iterator[int]:
    """A running HAProxy in front of the port ``server``; its own port. ``mode`` is http or tcp."""
    port = free_port()
    pem = folder / "haproxy.pem"
    pem.write_bytes(certificate.chain.read_bytes() + certificate.key.read_bytes())
    file = folder / "haproxy.cfg"
    file.write_text(CONFIG.format(mode=mode, port=port, pem=pem, server=server))
    with Process(["haproxy", "-db", "-f", str(file)], folder / "haproxy.log") as process:
        process.await_port(port)
        yield port
