"""Runs the client until a signal."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from circumvent.cli.stopping import Stopper
from circumvent.cli.views import View
from circumvent.client import Client, Servers
from circumvent.status import control
from circumvent.status.events import Draining, Warned
from circumvent.tasks import dismiss

DRAIN_SECONDS = 10.0  # a page or a short download can end, and the user does not wait long


async def run_until_signalled(
    client: Client, servers: Servers, control_sockets: Sequence[Path], view: View
) -> int:
    """Run the client and answer ``status``; returns the exit code."""

    def draining() -> None:
        streams = sum(tunnel.streams for tunnel in client.status().tunnels)
        view.show(Draining(streams, DRAIN_SECONDS))
        asyncio.get_running_loop().call_later(DRAIN_SECONDS, stopper.stop.set)

    def warn(text: str) -> None:
        view.show(Warned(text))

    with Stopper(draining) as stopper:
        async with control.serve(control_sockets, client.status, warn):
            follower = asyncio.create_task(view.follow(client.status))
            try:
                await client.run(servers, stopper.stop, stopper.drain)
            finally:
                await dismiss((follower,))
    return stopper.exit_code
