"""The same visit over programs that people use today, printed for comparison.

The tests assert only that these programs were really used.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench.contenders import PEER, started
from tests.e2e.long_visit import Visit, long_site, visit
from tests.e2e.nodes import three_nodes
from tests.peers.ssh import ssh_tunnel, sshd
from tests.peers.tcp_path import PathConnection, TcpPath, tcp_path

MB = 1_000_000
SIZE = 500 * MB
RATE = 20 * MB
GIVE_UP = 60.0  # seconds: a person would have reloaded the page long before

pytestmark = [pytest.mark.prove, pytest.mark.timeout(150)]


def through(ways: list[TcpPath]) -> list[tuple[TcpPath, PathConnection]]:
    return [(way, passing) for way in ways for passing in tuple(way.connections)]


def note(name: str, seen: Visit) -> None:
    print(f"\n{name}: {seen}")
    assert seen.broken


def test_what_users_of_sing_box_urltest_see(tmp_path: Path) -> None:
    with ExitStack() as stack:
        site = stack.enter_context(long_site(tmp_path, SIZE))
        nodes = stack.enter_context(three_nodes(tmp_path))
        ways = [stack.enter_context(tcp_path(node.endpoint.port, RATE)) for node in nodes]
        endpoints = [
            replace(node.endpoint, port=way.port) for node, way in zip(nodes, ways, strict=True)
        ]
        running = stack.enter_context(started(PEER, endpoints, tmp_path, site[1]))
        seen = visit(tmp_path, site, running.through.proxy, lambda: through(ways), GIVE_UP)
    note("sing-box urltest over three servers", seen)


def test_what_users_of_an_ssh_tunnel_see(tmp_path: Path) -> None:
    with (
        long_site(tmp_path, SIZE) as site,
        sshd(tmp_path) as server,
        tcp_path(server, RATE) as way,
        ssh_tunnel(tmp_path, way.port) as proxy,
    ):
        seen = visit(tmp_path, site, proxy, lambda: through([way]), GIVE_UP)
    note("ssh -D", seen)
