"""``python -m tests.bench.wire_image``: what somebody on the path sees of each connection.

A recorder stands between our client and its server, and notes the size of each packet, its
direction and when it came. Each run is a fresh client: its first probe or carriers, then a visit
with a browser that takes 100 ms to say its ClientHello. What varies from run to run is a range.
"""

from __future__ import annotations

import argparse
import signal
import socket
import ssl
import struct
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Thread

from circumvent.links.relay import format_relay_link, parse_relay_link
from tests.bench.contenders import started_origin
from tests.peers import socks
from tests.peers.certificates import make_certificate
from tests.peers.client import running_client
from tests.peers.relay import make_relay, running_relay
from tests.peers.servers import sing_box_server
from tests.peers.services import HOST, SHADOWSOCKS, TROJAN, VLESS, VLESS_TLS

SERVICES = {"shadowsocks": SHADOWSOCKS[1], "trojan": TROJAN, "vless": VLESS, "vless-tls": VLESS_TLS}
CARRIERS = ("tls", "websocket", "fronted")
SHOWN = 10  # packets each way
CONNECTIONS = 4
BROWSER_SECONDS = 0.1
RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds


@dataclass
class Seen:
    """One connection: packets as (direction, size, seconds since it began), and how it ended."""

    began: float
    packets: list[tuple[str, int, float]] = field(default_factory=list)
    end: str = "-"


class Recorder:
    """``port`` leads to ``target`` on the same address."""

    def __init__(self, target: int) -> None:
        self.seen: list[Seen] = []
        self._target = target
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            far = socket.create_connection((HOST, self._target))
            seen = Seen(time.monotonic())
            self.seen.append(seen)
            for source, sink, way in ((near, far, ">"), (far, near, "<")):
                sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                Thread(target=_pass_on, args=(source, sink, way, seen), daemon=True).start()


def _pass_on(source: socket.socket, sink: socket.socket, way: str, seen: Seen) -> None:
    end = "FIN"
    try:
        while data := source.recv(1 << 16):
            seen.packets.append((way, len(data), time.monotonic() - seen.began))
            with suppress(OSError):  # the other end has left; this one may say more
                sink.sendall(data)
    except OSError:
        end = "RST"
        sink.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    if way == ">":
        seen.end = end
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR) if end == "FIN" else sink.close()


@contextmanager
def site() -> Iterator[int]:
    """Answers the first word of each visitor; its port."""

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):  # closed
            while True:
                sock, _ = listener.accept()
                with sock:
                    sock.recv(1 << 16)
                    sock.sendall(bytes(100))
                    sock.recv(1 << 16)

    with socket.create_server((HOST, 0)) as listener:
        Thread(target=serve, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1]


def visit(proxy: int, port: int) -> None:
    """A ClientHello of a browser that is slow to say it."""
    hello, engine = ssl.MemoryBIO(), ssl.create_default_context()
    with suppress(ssl.SSLWantReadError):
        engine.wrap_bio(ssl.MemoryBIO(), hello, server_hostname="www.site.test").do_handshake()
    with socks.connect(proxy, HOST, port) as sock:
        time.sleep(BROWSER_SECONDS)
        sock.sendall(hello.read())
        sock.recv(1 << 16)


def run(kind: str, folder: Path) -> list[Seen]:
    """One client's life, as the recorder saw it."""
    with ExitStack() as stack:
        place = stack.enter_context(site())
        probe = f"http://{HOST}:{stack.enter_context(started_origin(folder))}/generate_204"
        if kind in SERVICES:
            served = sing_box_server(SERVICES[kind], folder, make_certificate(folder))
            service = stack.enter_context(served)
            recorder = Recorder(service.endpoint.port)
            link = replace(service.endpoint, port=recorder.port).link
        else:
            port = make_relay(folder / "relay")
            invite = stack.enter_context(running_relay(folder / "relay", port)).link
            recorder = Recorder(port)
            settings = replace(parse_relay_link(invite), port=recorder.port, carriers=(kind,))
            link = format_relay_link(settings)
        privacy = ["--privacy", "plain"] if kind == "vless" else []
        with running_client(folder / "client", [link, *privacy], probe) as client:
            if kind in CARRIERS:
                client.await_carriers(3)
            visit(client.port, place)
            time.sleep(0.5)
            client.process.send(signal.SIGINT)
            client.process.wait()
    return recorder.seen


def table(kind: str, runs: Sequence[Sequence[Seen]]) -> Iterator[str]:
    """Lines: the same connection of all runs, packet by packet, each way for itself."""
    for number in range(min(CONNECTIONS, *map(len, runs))):
        same = [seen[number] for seen in runs]
        starts = _range([each[number].began - each[0].began for each in runs], 1000)
        ends = "/".join(sorted({each.end for each in same}))
        yield f"{kind}, connection {number + 1}: begins at {starts} ms, ends with {ends}"
        for way, name in ((">", "up"), ("<", "down")):
            mine = [[packet for packet in each.packets if packet[0] == way] for each in same]
            count = min(SHOWN, *map(len, mine))
            packets = list(zip(*(each[:count] for each in mine), strict=True))
            sizes = [_range([size for _, size, _ in each]) for each in packets]
            times = [_range([at for *_, at in each], 1000) for each in packets]
            yield f"  {name:4} bytes {', '.join(sizes)}"
            yield f"       at ms {', '.join(times)}"


def _range(values: Sequence[float], scale: int = 1) -> str:
    least, most = round(min(values) * scale), round(max(values) * scale)
    return str(least) if least == most else f"{least}-{most}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.wire_image", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("kinds", nargs="*", default=[*SERVICES, *CARRIERS])
    chosen = parser.parse_args()
    for kind in chosen.kinds:
        with tempfile.TemporaryDirectory() as folder:
            runs = []
            for number in range(chosen.runs):
                place = Path(folder) / str(number)
                place.mkdir()
                runs.append(run(kind, place))
        print("\n".join(table(kind, runs)), flush=True)


if __name__ == "__main__":
    main()
