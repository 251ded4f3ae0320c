"""What gives way when memory is short: little by little, and what hurts least goes first."""

from __future__ import annotations

from circumvent.memory import Pressure
from circumvent.tunnels.live import UserStream
from circumvent.tunnels.manager import TunnelManager


def relieve(manager: TunnelManager, now: float) -> None:
    """One step of relief, if it is needed: a spare tunnel, or else a stream."""
    timings = manager.context.timings.relief
    memory = manager.context.memory
    if memory.pressure < Pressure.CRITICAL and not memory.charges_wait:
        return
    if any(manager.shed(live) for live in tuple(manager.tunnels)):
        return
    streams = [stream for live in manager.tunnels for stream in live.streams]
    stalled = [stream for stream in streams if _is_stalled(stream, now - timings.stalled_after)]
    victims = stalled or [
        stream for stream in streams if stream.moved_at < now - timings.idle_after
    ]
    if victims:
        min(victims, key=lambda stream: stream.moved_at).cut()


def _is_stalled(stream: UserStream, since: float) -> bool:
    has_room = stream.client is None or stream.client.room()
    return stream.moved_at < since and not has_room
