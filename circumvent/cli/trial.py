"""Tries one server for ``servers test``: a client of its own, until its tunnel is up or lost."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import msgspec

from circumvent.cli.links import Server
from circumvent.client import Client
from circumvent.config import Config
from circumvent.events import Event, TunnelUp
from circumvent.plugins import Plugins
from circumvent.tunnels.store import Store

TRIAL_SECONDS = 10.0  # dial, handshake and one page, from the far end of the world


@dataclass(frozen=True, slots=True)
class Trial:
    """How a server did: ``ms`` until a page came through, or the ``reason`` why not."""

    server: str
    ok: bool
    ms: float
    reason: str = ""


async def try_server(server: Server, config: Config, plugins: Plugins) -> Trial:
    """Run a client with this server alone, on a port that nobody knows."""
    alone = msgspec.structs.replace(
        config, listen="127.0.0.1:0", servers=(server.entry.link,), servers_file="", tunnels=1
    )
    stop = asyncio.Event()

    def watch(event: Event) -> None:
        if isinstance(event, TunnelUp):
            stop.set()

    start = time.time()
    client = Client(alone, plugins, events=watch)
    running = asyncio.create_task(client.run(stop, asyncio.Event()))
    await asyncio.wait((running,), timeout=TRIAL_SECONDS)
    is_up = stop.is_set()
    stop.set()
    await running
    ms = (time.time() - start) * 1000
    return Trial(server.entry.id, is_up, ms, "" if is_up else _last_failure(config, server, start))


def _last_failure(config: Config, server: Server, since: float) -> str:
    store = Store(config.state_file)
    failed = store.attempts(1, server.entry.id, failures=True)
    store.close()
    if not failed or failed[0].at < since:
        return f"nothing came back within {TRIAL_SECONDS:.0f} s"
    return f"{failed[0].stage}: {failed[0].detail or failed[0].errno_name}"
