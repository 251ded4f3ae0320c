"""A relay as an operator runs it, reached by three kinds of carriers, each over paths that break.

``tls`` leads to the relay itself, ``websocket`` and ``fronted`` to nginx, which passes them on.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urlsplit, urlunsplit

from tests.bench.contenders import Contender
from tests.peers.certificates import SERVER_NAME, Certificate
from tests.peers.nginx import nginx
from tests.peers.process import Process, free_port
from tests.peers.services import HOST, Endpoint
from tests.peers.tcp_path import PathConnection, TcpPath, tcp_path

CARRIERS = ("tls", "websocket", "fronted")
PASS_ON = """
        location / {{
            proxy_pass https://127.0.0.1:{port};
            proxy_http_version 1.1;
            proxy_set_header Host $host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $http_connection;
            proxy_buffering off;
            proxy_request_buffering off;
        }}
"""


@dataclass(frozen=True, slots=True)
class Bonded:
    """``link`` leads over both paths: to the relay and to the web server."""

    link: str
    relay: Process
    direct: TcpPath
    web: TcpPath

    @property
    def connections(self) -> list[tuple[TcpPath, PathConnection]]:
        """All open connections."""
        ways = (self.direct, self.web)
        return [(way, passing) for way in ways for passing in tuple(way.connections)]


def command(*arguments: str) -> str:
    """Run ``circumvent relay`` and return what it prints."""
    called = [sys.executable, "-m", "circumvent", "relay", *arguments]
    return subprocess.run(called, check=True, capture_output=True, text=True, timeout=20).stdout


@contextmanager
def bonded(folder: Path, certificate: Certificate, rate: float = math.inf) -> Iterator[Bonded]:
    """Run the relay, nginx in front of it, and the paths to both; ``rate`` in bytes per second."""
    place, port = folder / "relay", free_port()
    command("init", str(place), "--listen", f"{HOST}:{port}", "--allow-private")
    link = command("invite", str(place)).strip()
    with (
        Process(
            [sys.executable, "-m", "circumvent", "relay", "run", str(place)], folder / "relay.log"
        ) as relay,
        nginx(folder, certificate, {SERVER_NAME: PASS_ON.format(port=port)}) as web_port,
        tcp_path(port, rate) as direct,
        tcp_path(web_port, rate) as web,
    ):
        relay.await_port(port)
        yield Bonded(_over(link, direct.port, web.port), relay, direct, web)


def _over(link: str, direct: int, web: int) -> str:
    """The link as the client gets it: over the paths, and with all carriers."""
    parts = urlsplit(link)
    query = [each for each in parts.query.split("&") if each.startswith("pin=")]
    query.append(urlencode({"carriers": ",".join(CARRIERS), "web": f"{HOST}:{web}"}))
    user = parts.netloc.rpartition("@")[0]
    return urlunsplit(parts._replace(netloc=f"{user}@{HOST}:{direct}", query="&".join(query)))


def client(link: str, certificate: Certificate, *options: str) -> Contender:
    """Our client with only that link, trusting the test's authority like the system's."""

    def started(_: Sequence[Endpoint], port: int, _home: Path, probe_url: str) -> list[str]:
        trust = f"SSL_CERT_FILE={certificate.authority}"
        given = ["--listen", f"{HOST}:{port}", "--probe-url", probe_url, *options]
        return ["env", trust, sys.executable, "-m", "circumvent", "run", link, *given]

    return Contender("circumvent", started)
