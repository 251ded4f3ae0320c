"""What the kernel knows of users' streams: queues that we fill ourselves, and paths that froze.

Silence alone is no evidence: a destination may send nothing for as long as it likes. But the
*kernel* at the other end of a connection always answers. So a path is dead when that does not
answer, and there is a queue when it answers late.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

from circumvent.api.streams import Vitals
from circumvent.tunnels.live import LiveTunnel, TunnelState, UserStream
from circumvent.tunnels.timings import VitalsTimings

UNANSWERED = 3  # questions without an answer: one may get lost


def queueing(tunnels: Iterable[LiveTunnel], timings: VitalsTimings) -> float:
    """Seconds that a packet waits in queues on its way, as the flows in progress show.

    All tunnels share the uplink of a household, and one upload fills it.
    """
    longest = max((_queue(live, timings.fresh) for live in tunnels), default=0.0)
    return longest if longest > timings.least_queue else 0.0


def _queue(live: LiveTunnel, fresh: float) -> float:
    longest = 0.0
    for stream in live.streams:
        vitals = stream.stream.vitals()
        if vitals is not None and vitals.silence < vitals.rtt + fresh:
            longest = max(longest, vitals.queueing, vitals.rtt - live.rtt)
    for carrier in live.tunnel.carriers:
        if carrier.state == TunnelState.UP.value:
            longest = max(longest, carrier.rtt_ms / 1000 - live.rtt)
    return longest


def unanswered(
    live: LiveTunnel, now: float, timings: VitalsTimings
) -> Iterator[tuple[UserStream, Vitals]]:
    """Streams whose paths may have died: asked for a sign of life, and none came yet.

    Call it every second. It looks at streams that wait for an answer. While no stream of the tunnel
    carried much, it looks at all silent ones: some censors let only the first few KiB pass.
    """
    for stream in tuple(live.streams):
        is_awaited = bool(stream.waiting_since) or not live.proven
        if now - stream.moved_at < timings.ask_after or not is_awaited:
            _stop_asking(stream)
        elif not stream.asked_at:
            if now > stream.ask_from:
                stream.asked_at = now
                stream.stream.ask_for_sign(wanted=True)
        elif (vitals := stream.stream.vitals()) is not None:
            if vitals.silence < now - stream.asked_at:
                _stop_asking(stream)
                stream.ask_from = now + random.uniform(*timings.ask_again)  # noqa: S311 - no secret
            else:
                yield stream, vitals


def is_frozen(vitals: Vitals, asked_for: float, works_for: float, patience: float) -> bool:
    """Whether a path died that was asked ``asked_for`` seconds, of a tunnel that works.

    Silence before it was asked is no evidence. The kernel asks again after twice as long each time
    (RFC 6298 §5.5). So after an outage a path may need as long again to give a sign. Once the
    tunnel ``works_for`` half of the silence, the path was asked meanwhile.
    ``patience``: seconds for which it is asked in vain at least.
    """
    is_asked = asked_for > patience and vitals.unanswered >= UNANSWERED
    return is_asked and works_for > vitals.silence / 2


def _stop_asking(stream: UserStream) -> None:
    if stream.asked_at:
        stream.asked_at = 0.0
        stream.stream.ask_for_sign(wanted=False)
