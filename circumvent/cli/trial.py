"""Tries one server for ``servers test``, as a race does."""

from __future__ import annotations

from dataclasses import dataclass

from circumvent.config import Config
from circumvent.errors import CircumventError
from circumvent.layers.tls.client import TlsClient
from circumvent.memory import Memory
from circumvent.net.dialer import NetDialer
from circumvent.state.store import Store
from circumvent.tunnels.candidate import Candidate
from circumvent.tunnels.live import LAST_RESORT
from circumvent.tunnels.probe import Prober, ProbeTarget
from circumvent.tunnels.race import RaceContext, attempt

_MS = 1000


@dataclass(frozen=True, slots=True)
class Trial:
    """How a server did: ``ms`` of one round trip through it, or the ``reason`` why not."""

    server: str
    ok: bool
    ms: float = 0.0
    reason: str = ""


async def try_server(server: Candidate, config: Config, store: Store) -> Trial:
    """Connect and probe; the attempt is recorded, so ``why`` can tell more."""
    memory = Memory(config.memory_bytes, config.arena_bytes)
    prober = Prober([ProbeTarget.parse(url) for url in config.probe_urls])
    try:
        dialer = NetDialer(TlsClient(), guard=config.guard)
        learnt = dialer.guarded(config.learnt_guard())
        live = await attempt(RaceContext(dialer, learnt, memory, prober, store), server)
        await live.tunnel.aclose()
    except CircumventError as error:
        return Trial(server.id, ok=False, reason=str(error))
    if live.is_last_resort:
        return Trial(server.id, ok=False, reason=LAST_RESORT)
    return Trial(server.id, ok=True, ms=live.rtt * _MS)
