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
    streams = [stream for live in manager.tunnels for stream in live.streams]
    victims = [stream for stream in streams if _is_stalled(stream, now)] or [
        stream for stream in streams if now - stream.moved_at > IDLE_AFTER
    ]
    if victims:
        min(victims, key=lambda stream: stream.moved_at).cut()


def _is_stalled(stream: UserStream, now: float) -> bool:
    has_room = stream.client is None or stream.client.room()
    return now - stream.moved_at > STALLED_AFTER and not has_room
