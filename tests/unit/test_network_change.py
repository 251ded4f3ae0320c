"""Another network, and waking from sleep: every tunnel is probed at once."""

from pathlib import Path

import pytest

from circumvent.tunnels.live import TunnelState
from circumvent.tunnels.timings import ProbeTimings
from tests.unit.far_side import (
    all_of,
    candidate,
    nodes,
)
from tests.unit.running_client import running_client
from tests.virtual.loop import running_loop, until

pytestmark = pytest.mark.virtual_time


async def test_waking_from_sleep_probes_every_tunnel(tmp_path: Path) -> None:
    async with nodes(3) as made, running_client(all_of(made), tmp_path) as client:
        tunnels = await client.up(3)
        made[0].freeze()
        running_loop().sleep_machine(3600.0)
        await until(lambda: len(client.manager.tunnels) == 2)
        assert client.through(made[1]) in tunnels
        assert client.through(made[2]) in tunnels


async def test_another_network_probes_every_tunnel(tmp_path: Path) -> None:
    async with nodes(2) as made, running_client(all_of(made), tmp_path) as client:
        tunnels = await client.up(2)
        before = client.manager.network
        client.health.look_at_network()
        assert {tunnel.state for tunnel in tunnels} == {TunnelState.UP}
        client.look_at_network(b"cafe")
        assert client.manager.network != before
        assert {tunnel.state for tunnel in tunnels} == {TunnelState.SUSPECTED}
        assert client.forgotten == [b"cafe"]
        await until(lambda: all(tunnel.state is TunnelState.UP for tunnel in tunnels))


async def test_more_to_know_of_the_same_network_is_no_change(tmp_path: Path) -> None:
    async with nodes(1) as made, running_client(all_of(made), tmp_path) as client:
        (tunnel,) = await client.up(1)
        before = client.manager.network
        client.look_at_network(b"home with its MAC")
        assert client.manager.network != before, "another start may know it at once"
        assert tunnel.state is TunnelState.UP
        assert not client.forgotten


async def test_nowhere_for_a_moment_probes_the_tunnels_but_forgets_nothing(tmp_path: Path) -> None:
    async with nodes(1) as made, running_client(all_of(made), tmp_path) as client:
        (tunnel,) = await client.up(1)
        before = client.manager.network
        client.look_at_network(b"")
        assert (client.manager.network, tunnel.state) == (before, TunnelState.UP)
        client.look_at_network(b"home")
        assert (client.manager.network, tunnel.state) == (before, TunnelState.SUSPECTED)
        assert not client.forgotten


async def test_from_one_network_over_nowhere_to_another_is_a_change(tmp_path: Path) -> None:
    async with nodes(1) as made, running_client(all_of(made), tmp_path) as client:
        await client.up(1)
        for name in (b"", b"cafe"):
            client.networks.append(name)
            client.health.look_at_network()
        assert client.forgotten == [b"cafe"]


async def test_an_idle_tunnel_is_probed_now_and_then(tmp_path: Path) -> None:
    async with nodes(1) as (node,), running_client([candidate(node)], tmp_path) as client:
        (tunnel,) = await client.up(1)
        first, later = ProbeTimings().first, ProbeTimings().idle
        assert first[0] <= await until(lambda: tunnel.verified_at > 0) <= first[1] + 1.0
        assert tunnel.state is TunnelState.UP
        node.freeze()
        assert (
            await until(lambda: tunnel.state is not TunnelState.UP)
            <= later[1] + ProbeTimings().most + 1.0
        )
        await until(lambda: tunnel.state is TunnelState.DEAD)
