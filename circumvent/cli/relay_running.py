"""Runs a relay until a signal."""

from __future__ import annotations

import logging

import click
import msgspec

from circumvent.cli.stopping import Stopper
from circumvent.errors import CircumventError
from circumvent.net.descriptors import raise_descriptor_limit
from circumvent.relay.home import RelayHome
from circumvent.relay.relay import Relay
from circumvent.relay.status import RelayStatus
from circumvent.status import control

log = logging.getLogger(__name__)


async def run_until_signalled(home: RelayHome, *, as_json: bool) -> int:
    """Serve; returns the exit code. Raises ConfigError."""
    raise_descriptor_limit()
    relay = Relay(home)

    def reload() -> None:
        try:
            relay.reload()
        except CircumventError as error:
            log.error("nothing was reloaded: %s", error)  # noqa: TRY400 - the text says it all
        else:
            log.warning("users, limits, keys and certificates were reloaded")

    def announce(status: RelayStatus) -> None:
        say = msgspec.json.encode({"event": "listening", "address": status.listen})
        click.echo(say if as_json else f"listening on {status.listen}")

    with Stopper(lambda: None, reload) as stopper:
        async with control.serve([home.control_socket], relay.status, log.warning):
            await relay.run(stopper.stop, stopper.drain, announce)
    return stopper.exit_code
