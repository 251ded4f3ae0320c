"""What the kernel tells of users' streams: queues that we fill ourselves, and paths that froze.

Silence alone is no evidence: a destination may have nothing to say for as long as it likes. But
the *kernel* at the other end of a connection answers always, so what stays unanswered there is
a dead path, and what is answered late waits in a queue.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

from circumvent.api.streams import Vitals
from circumvent.tunnels.live import LiveTunnel, TunnelState, UserStream

ASK_AFTER = 2.0  # seconds without a byte, after which a path is asked for a sign
ASK_AGAIN = (30.0, 60.0)  # seconds after one that was given; drawn anew, for clocks are seen
FROZEN_AFTER = 10.0  # seconds in which it is asked in vain; a telephone in a tunnel may need some
UNANSWERED = 3  # questions in vain: one may get lost
FRESH = 1.0  # seconds, and a round trip: a flow that gets signs is in progress
LEAST_QUEUE = 0.1  # seconds; less may be an acknowledgement that was held back


def queueing(tunnels: Iterable[LiveTunnel]) -> float:
    """Seconds that a packet waits in queues on its way, as the flows in progress show.

    A household's uplink is one for all tunnels, and one upload fills it.
    """
    longest = max(map(_queue, tunnels), default=0.0)
    return longest if longest > LEAST_QUEUE else 0.0


def _queue(live: LiveTunnel) -> float:
    longest = 0.0
    for stream in live.streams:
        vitals = stream.stream.vitals()
        if vitals is not None and vitals.silence < vitals.rtt + FRESH:
            longest = max(longest, vitals.queueing, vitals.rtt - live.rtt)
    for carrier in live.tunnel.carriers:
        if carrier.state == TunnelState.UP.value:
            longest = max(longest, carrier.rtt_ms / 1000 - live.rtt)
    return longest


def unanswered(live: LiveTunnel, now: float) -> Iterator[tuple[UserStream, Vitals]]:
    """Streams whose paths may have died: asked for a sign, and none came yet.

    Call it every second. In question is who waits for an answer and, while no stream of the tunnel
    carried much, who just heard nothing more: some censors let the first few KiB pass.
    """
    for stream in tuple(live.streams):
        is_awaited = bool(stream.waiting_since) or not live.proven
        if now - stream.moved_at < ASK_AFTER or not is_awaited:
            _stop_asking(stream)
        elif not stream.asked_at:
            if now > stream.ask_from:
                stream.asked_at = now
                stream.stream.ask_for_sign(wanted=True)
        elif (vitals := stream.stream.vitals()) is not None:
            if vitals.silence < now - stream.asked_at:
                _stop_asking(stream)
                stream.ask_from = now + random.uniform(*ASK_AGAIN)  # noqa: S311 - no secret
            else:
                yield stream, vitals


def is_frozen(vitals: Vitals, asked_for: float, works_for: float, slack: float) -> bool:
    """Whether a path died that was asked for so long, of a tunnel that works for so long.

    Who was silent before it was asked had nothing to say: that is no evidence. The kernel asks
    again each time after twice as long (RFC 6298 §5.5). So after an outage a path may need as long
    again to give a sign; what works for half of the silence was asked meanwhile.
    ``slack``: seconds that all answers take longer now.
    """
    is_asked = asked_for > FROZEN_AFTER + slack and vitals.unanswered >= UNANSWERED
    return is_asked and works_for > vitals.silence / 2


def _stop_asking(stream: UserStream) -> None:
    if stream.asked_at:
        stream.asked_at = 0.0
        stream.stream.ask_for_sign(wanted=False)
