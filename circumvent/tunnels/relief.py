"""What gives way when memory is short: little by little, and what hurts least goes first."""

from __future__ import annotations

from circumvent.memory import Pressure
from circumvent.tunnels.live import UserStream
from circumvent.tunnels.manager import TunnelManager

STALLED_AFTER = 5.0  # seconds in which a client that has data to take took nothing
IDLE_AFTER = 60.0  # seconds without a byte, while others wait for memory to begin


def relieve(manager: TunnelManager, now: float) -> None:
    """One step of relief, if it is needed: a spare tunnel, or else a stream."""
    memory = manager.track.memory
    if memory.pressure < Pressure.CRITICAL and not memory.charges_wait:
        return
    if any(manager.shed(live) for live in tuple(manager.tunnels)):
        return
    relays = [relay for live in manager.tunnels for relay in live.relays]
    victims = [relay for relay in relays if _is_stalled(relay, now)] or [
        relay for relay in relays if now - relay.moved_at > IDLE_AFTER
    ]
    if victims:
        min(victims, key=lambda relay: relay.moved_at).cut()


def _is_stalled(relay: UserStream, now: float) -> bool:
    has_room = relay.client is None or relay.client.room()
    return now - relay.moved_at > STALLED_AFTER and not has_room
