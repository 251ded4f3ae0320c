"""The pool remembers for each network what worked there."""

from pathlib import Path

import pytest

from circumvent.state.store import Store
from circumvent.tunnels.live import TunnelState
from tests.unit.far_side import (
    all_of,
    candidate,
    nodes,
)
from tests.unit.running_client import running_client

pytestmark = pytest.mark.virtual_time


async def test_what_worked_here_is_tried_first(tmp_path: Path) -> None:
    async with nodes(6) as made:
        servers = all_of(made)
        async with running_client([servers[4]], tmp_path, wanted=1) as client:
            await client.up(1)
            client.store.flush()
        async with running_client(servers, tmp_path, wanted=1, parallel=1) as client:
            assert (await client.up(1))[0].candidate is servers[4]


async def test_what_worked_elsewhere_says_nothing(tmp_path: Path) -> None:
    async with nodes(1) as (node,), running_client([candidate(node)], tmp_path) as client:
        await client.up(1)
        client.look_at_network(b"cafe")
        assert not client.store.scores.on(client.manager.network)


async def test_a_lost_tunnel_is_scored_and_its_users_failures_apart(tmp_path: Path) -> None:
    async with nodes(2) as made:
        servers = all_of(made)
        async with running_client(servers, tmp_path, wanted=2) as client:
            await client.up(2)
            for tunnel in tuple(client.manager.tunnels):
                tunnel.bytes_down = 5000
                users_failed = tunnel.candidate is servers[0]
                client.manager.lose(tunnel, "for the test", users_failed=users_failed)
                assert tunnel.state is TunnelState.DEAD
            scores = client.store.scores.on(client.manager.network)
    by_users, by_probe = (scores[server.id] for server in servers)
    assert (by_users.failures, by_users.user_failures) == (0, 1)
    assert (by_probe.failures, by_probe.user_failures) == (1, 0)


async def test_an_old_state_file_of_an_earlier_run_is_read(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.db")
    network = store.scores.network_id(b"home")
    async with nodes(3) as made:
        servers = all_of(made)
        for bad in servers[:2]:
            store.scores.remember(network, bad.id, ok=False, ms=0.0, user_bytes=0)
        store.scores.remember(network, servers[2].id, ok=True, ms=5.0, user_bytes=0)
        store.close()
        async with running_client(servers, tmp_path, wanted=1, parallel=1) as client:
            assert (await client.up(1))[0].candidate is servers[2]
