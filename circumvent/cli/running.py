"""Runs the client until a signal: the first one drains, the second stops at once."""

from __future__ import annotations

import asyncio
import signal

from circumvent import control
from circumvent.cli.app import STOPPED_AT_ONCE
from circumvent.cli.views import View
from circumvent.client import Client
from circumvent.config import Config
from circumvent.events import Draining
from circumvent.plugins import Plugins

DRAIN_SECONDS = 10.0  # a page or a short download can end, and nobody waits for long
SIGNALS = (signal.SIGINT, signal.SIGTERM)


async def run_until_signalled(config: Config, plugins: Plugins, view: View) -> int:
    """Run the client and answer ``status``; returns the exit code."""
    client = Client(config, plugins, events=view.show)
    stopper = Stopper(client, view)
    async with control.serve(config.control_socket, client.status):
        with stopper:
            follower = asyncio.create_task(view.follow(client.status))
            try:
                await client.run(stopper.stop, stopper.drain)
            finally:
                follower.cancel()
                await asyncio.wait((follower,))
    return STOPPED_AT_ONCE if stopper.is_impatient else 0


class Stopper:
    """Turns signals into the two events that end the client."""

    def __init__(self, client: Client, view: View) -> None:
        self.stop = asyncio.Event()
        self.drain = asyncio.Event()
        self.is_impatient = False
        self._client = client
        self._view = view
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> None:
        for number in SIGNALS:
            self._loop.add_signal_handler(number, self._signalled)

    def __exit__(self, *_: object) -> None:
        for number in SIGNALS:
            self._loop.remove_signal_handler(number)

    def _signalled(self) -> None:
        if self.drain.is_set():
            self.is_impatient = True
            self.stop.set()
            self.__exit__()  # a third signal does what it always does
            return
        self.drain.set()
        streams = sum(tunnel.streams for tunnel in self._client.status().tunnels)
        self._view.show(Draining(streams, DRAIN_SECONDS))
        self._loop.call_later(DRAIN_SECONDS, self.stop.set)
