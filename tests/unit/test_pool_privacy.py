"""What hides too little is never used, and no tunnel means refuse."""

import asyncio
from pathlib import Path

import pytest

from circumvent.api import Privacy
from circumvent.errors import (
    NoTunnelError,
)
from tests.unit.far_side import (
    FarTransport,
    candidate,
    nodes,
)
from tests.unit.running_client import running_client
from tests.virtual.loop import until

pytestmark = pytest.mark.virtual_time


async def test_a_server_that_hides_too_little_is_never_tried(tmp_path: Path) -> None:
    async with nodes(1) as (node,):
        plain = candidate(node, FarTransport("plain", Privacy.PLAIN))
        direct = candidate(node, FarTransport("direct", Privacy.DIRECT))
        async with running_client([plain, direct], tmp_path) as client:
            with pytest.raises(NoTunnelError):
                await client.manager.pick(set())
            client.health.revalidate()
            await asyncio.sleep(60.0)
            assert not client.attempts()
        assert not node.streams


async def test_one_that_the_user_allowed_is_used(tmp_path: Path) -> None:
    async with nodes(1) as (node,):
        plain = candidate(node, FarTransport("plain", Privacy.PLAIN))
        async with running_client([plain], tmp_path, privacy=Privacy.PLAIN) as client:
            await client.up(1)


async def test_the_lower_class_helps_out_only_when_none_above_it_is_left(tmp_path: Path) -> None:
    async with nodes(2) as (first, second):
        secret = candidate(first)
        plain = candidate(second, FarTransport("plain", Privacy.PLAIN))
        async with running_client([plain, secret], tmp_path, privacy=Privacy.PLAIN) as client:
            await client.up(2)
            assert client.manager.tunnels[0].candidate is secret, "it raced alone at first"
            assert (await client.manager.pick(set())).candidate is secret
            await first.kill()
            client.health.revalidate()
            await until(lambda: len(client.manager.tunnels) == 1)
            assert (await client.manager.pick(set())).candidate is plain


async def test_no_tunnel_means_refuse(tmp_path: Path) -> None:
    async with nodes(1) as (node,):
        await node.kill()
        async with running_client([candidate(node)], tmp_path) as client:
            browser = await client.browse("echo.test")
            with pytest.raises(NoTunnelError):
                await browser.served
            assert not browser.accepted
            assert await browser.receive_all() == b""
