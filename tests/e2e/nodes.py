"""Servers that can be killed, frozen and brought back."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.peers import sing_box
from tests.peers.certificates import make_certificate
from tests.peers.process import Process, free_port
from tests.peers.services import SHADOWSOCKS, TROJAN, VLESS_TLS, Endpoint

THREE_SERVICES = (SHADOWSOCKS[0], TROJAN, VLESS_TLS)


class Node:
    """A sing-box server in a process of its own, always at the same address."""

    def __init__(self, endpoint: Endpoint, folder: Path) -> None:
        self.endpoint = endpoint
        self._config = folder / f"node-{endpoint.port}.json"
        self._config.write_text(json.dumps(sing_box.server_config(endpoint)))
        self.process = self._start()

    def _start(self) -> Process:
        command = [*sing_box.command(), str(self._config)]
        process = Process(command, self._config.with_suffix(".log"))
        process.await_port(self.endpoint.port)
        return process

    def restore(self) -> None:
        """Make it serve again after whatever was done to it."""
        self.process.thaw()
        if self.process.exit_code is not None:
            self.process = self._start()

    def end(self) -> None:
        """Kill it; it is not started again."""
        self.process.kill()

    @property
    def bytes_moved(self) -> int:
        """All bytes that it has read and written, for any client; 0 once it is dead."""
        if self.process.exit_code is not None:
            return 0
        counters = Path(f"/proc/{self.process.pid}/io").read_text().split()
        return int(counters[1]) + int(counters[3])


@contextmanager
def three_nodes(folder: Path) -> Iterator[list[Node]]:
    """Three servers of three transports."""
    certificate = make_certificate(folder)
    with ExitStack() as stack:
        nodes = []
        for service in THREE_SERVICES:
            endpoint = Endpoint(service, free_port(), service.new_secret(), certificate)
            node = Node(endpoint, folder)
            stack.callback(node.end)
            nodes.append(node)
        yield nodes


def busiest(nodes: Sequence[Node], seconds: float) -> Node:
    """The node that moves most bytes during so many seconds."""
    before = [node.bytes_moved for node in nodes]
    time.sleep(seconds)
    moved = [node.bytes_moved - start for node, start in zip(nodes, before, strict=True)]
    return nodes[moved.index(max(moved))]
