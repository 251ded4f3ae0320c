"""A subscription of 20,000 lines, over real HTTPS: read within the budget, and how fast."""

from __future__ import annotations

import base64
import json
import random
import ssl
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

from circumvent.config import Config
from tests.bench.contenders import Contender, own_files, started_origin
from tests.e2e.memory_group import MemoryGroup, memory_group
from tests.peers.certificates import Certificate, make_certificate
from tests.peers.process import Process, free_port
from tests.peers.servers import sing_box_server
from tests.peers.services import HOST, SHADOWSOCKS, Server

LINES = 20_000
UNUSABLE = 7_000  # of them, in front of all others
LIMIT = 50_000_000


class Provider(BaseHTTPRequestHandler):
    """Hands out the list whose length is the path."""

    lists: ClassVar[dict[str, bytes]] = {}

    def do_GET(self) -> None:
        body = self.lists[self.path]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing."""


@contextmanager
def provider(certificate: Certificate) -> Iterator[int]:
    """The port of a web server that has two lists."""
    Provider.lists = {f"/{count}": a_list(count) for count in (20, LINES)}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.chain, certificate.key)
    with ThreadingHTTPServer((HOST, 0), Provider) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def a_list(count: int) -> bytes:
    """As providers send it: in base64, and many of its links are of no use. Nobody is there."""
    random_ = random.Random(count)
    unusable = count * UNUSABLE // LINES
    lines = [
        "vmess://" + base64.b64encode(random_.randbytes(180)).decode() for _ in range(unusable)
    ]
    for number in range(count - unusable):
        user = uuid.UUID(int=random_.getrandbits(128))
        key = base64.urlsafe_b64encode(random_.randbytes(32)).decode().rstrip("=")
        host = f"127.{random_.randrange(1, 255)}.{number // 250}.{number % 250 + 1}"
        lines.append(
            f"vless://{user}@{host}:9?encryption=none&flow=xtls-rprx-vision&security=reality"
            f"&sni=www.{number % 90}.test&fp=chrome&pbk={key}&sid={random_.randbytes(8).hex()}"
            f"&type=tcp&headerType=none#%F0%9F%87%A9%F0%9F%87%AA%20node%20{number}"
        )
    return base64.encodebytes("\n".join(lines).encode())


def test_a_list_of_20000_lines_is_read_within_the_budget(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    with (
        provider(certificate) as port,
        sing_box_server(SHADOWSOCKS[0], tmp_path, certificate) as server,
        started_origin(tmp_path) as page,
    ):
        peaks = [
            run(tmp_path / str(count), f"https://{HOST}:{port}/{count}", server, page)
            for count in (20, LINES)
        ]
    print(f"\nthe large list costs {(peaks[1] - peaks[0]) / 1e6:.1f} MB at its peak")
    assert peaks[1] - peaks[0] < Config().memory_bytes


def run(folder: Path, url: str, server: Server, page: int) -> int:
    """The peak of memory, in bytes, of a client that reads the list, and of its next start."""
    folder.mkdir(mode=0o700)
    first = peak_until(folder, "discovered", url, server, page)
    return max(first, peak_until(folder, "tunnel_up", url, server, page))


def peak_until(folder: Path, event: str, url: str, server: Server, page: int) -> int:
    """The peak until a tunnel is up and ``event`` was seen."""
    log = folder / event
    command = [
        *("env", f"SSL_CERT_FILE={server.endpoint.certificate.authority}", sys.executable),
        *("-m", "circumvent", "run", url, server.endpoint.link, "--json", "--allow-private"),
        *("--listen", f"{HOST}:{free_port()}"),
        *("--probe-url", f"http://{HOST}:{page}/generate_204"),
    ]
    with memory_group(LIMIT) as group, started_in(group, command, folder, log) as process:
        process.await_that(lambda: {event, "tunnel_up"} <= set(events(log)), f"told of {event}")
        facts = group.facts()
        if found := events(log).get("discovered"):
            print(f"\n{url}: {found['entries']} servers in {found['ms'] / 1000:.2f} s", end="")
        print(f"\n{event}: {facts}", end="")
        assert "pbk=" not in process.log
    assert facts.kills == 0
    return facts.peak


def started_in(group: MemoryGroup, command: list[str], folder: Path, log: Path) -> Process:
    held = group.hold(Contender("circumvent", lambda *_: command))
    return Process(held.command((), 0, folder, ""), log, env=own_files(folder))


def events(log: Path) -> dict[str, dict[str, Any]]:
    """The last event of each kind so far."""
    lines = log.read_text().splitlines(keepends=True)
    told = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]
    return {each["event"]: each for each in told}
