"""Every span of time that the tunnels' policy goes by, in seconds, each with its reason.

Values, not constants of modules: who runs a policy hands in its clock and its timings. Pairs are
ranges from which a value is drawn anew each time: no clockwork for a watcher to find.
"""

from __future__ import annotations

from msgspec import Struct

Span = tuple[float, float]


class BackoffTimings(Struct, frozen=True):
    """When something that failed may be tried again.

    ``pauses`` follow so many failures in a row. Censors count how often one name in one network is
    asked for a handshake: so there are five tries in the first minute, a sixth if somebody waits,
    and never two within 0.4 s; what is back is found within a minute.
    """

    pauses: tuple[float, ...] = (0.4, 0.4, 0.45, 8.0, 54.0)
    jitter: Span = (1.0, 1.1)  # a factor: servers do not come back together either
    untried: int = 3  # of the pauses, at most, where no packet left this machine
    early_after: float = 5.0  # since the last try, if somebody waits
    early_every: float = 300.0
    waits: float = 10.0  # who asked waits for so long, also beyond a try that fails meanwhile
    forgotten_after: float = 300.0  # since the end of a pause: older failures were not in a row


class RaceTimings(Struct, frozen=True):
    """How candidates are started, and how long each may take."""

    first_stagger: float = 0.25  # RFC 8305 §5 found it a good compromise
    stagger: Span = (0.05, 2.0)  # least and most, once wins have been timed
    seconds: float = 8.0  # a server slower than this is no help; others run meanwhile
    reach_seconds: float = 4.0  # of them, to be reached at all: two lost packets
    # While no tunnel is up, a candidate that has run for so long does not hold up the next one: a
    # stale list may hold dozens that do not answer, before the one that does.
    hanging_after: float = 0.35


class PoolTimings(Struct, frozen=True):
    """When tunnels are looked for, and how long for."""

    frozen_pause: float = 60.0  # of a server that wins races and then drops users' traffic
    steady_after: float = 5.0  # a tunnel that lived longer did not fail for the old reason
    last_resort_after: float = 3.0  # of a race in which nothing better came
    wait_for_tunnel: float = 10.0  # a client rather waits than fails, up to what browsers bear
    pressure_recheck: float = 1.0
    look_again: float = 2.0  # others may have asked for candidates whose back-off runs


class StreamTimings(Struct, frozen=True):
    """How long a user's stream is waited for."""

    patience: float = 1.0  # of silence, after which its tunnel is suspected
    longest_patience: float = 30.0  # it doubles with each probe that finds the tunnel well
    unanswered: float = 5.0  # for which a request waits for a relay while other tunnels are up
    in_vain: float = 3.0  # a stream that waited longer for its first byte may be so for ever
    taken: float = 2.0  # in which a client takes none of the last bytes before it is reset


class ProbeTimings(Struct, frozen=True):
    """How long a probe may take, and when it is repeated."""

    next_target_after: Span = (0.25, 0.5)  # a healthy target has mostly answered by then
    least: float = 3.0  # a lost packet or a slow look-up takes one second; streams leave before
    most: float = 6.0
    again: float = 1.0  # after one that decided nothing
    doubt_again_after: float = 2.0  # many failing streams are one reason to probe, not many
    first: Span = (3.0, 6.0)  # after the win, whose time may have been exceptional
    idle: Span = (45.0, 90.0)
    # A probe was fair if another tunnel received something before the kernel first asked again
    # (a second after the first, RFC 6298 §2) and still late in its time: so the network worked.
    fair_within: float = 0.7
    late: float = 1.5


class HealthTimings(Struct, frozen=True):
    """When silence counts, and for what."""

    tick: float = 0.2  # how late a suspicion may be
    open_seconds: float = 10.0  # the longest that a stream may take to open; suspicion comes first
    longest_queue: float = 5.0  # in a queue of ours; a probe passes it at each round trip
    all_silent: float = 15.0  # if no tunnel answers, it is our own network, and comes back
    resumes_within: float = 60.0  # as long as a relay keeps a session without carriers, and less
    served_within: float = 60.0  # users who got something may need the tunnel whose page is gone
    look_for_freezes: float = 1.0
    works_for: float = 4.0  # after anything came through a tunnel it is known to work
    early: float = 60.0  # what was idle for longer may have been forgotten by a router
    late: float = 0.5  # that a tick may be; later, the machine stood still, and nobody was silent
    wall_clock_jump: float = 5.0  # the machine slept


class VitalsTimings(Struct, frozen=True):
    """When a path is asked for a sign of life, and when it counts as frozen."""

    ask_after: float = 2.0  # without a byte
    ask_again: Span = (30.0, 60.0)  # after a sign that was given
    frozen_after: float = 10.0  # asked in vain; a telephone in a tunnel may need some
    fresh: float = 1.0  # and a round trip: a flow that gets signs is in progress
    least_queue: float = 0.1  # less may be an acknowledgement that was held back


class ReliefTimings(Struct, frozen=True):
    """Which streams may be closed when memory is short."""

    stalled_after: float = 5.0  # in which a client that has data to take took nothing
    idle_after: float = 60.0  # without a byte, while others wait for memory to begin


class CarrierTimings(Struct, frozen=True):
    """When a bonded tunnel dials carriers, and when a carrier counts as one that works."""

    grow_after: Span = (0.3, 2.0)  # from one more to the next; what is lost is replaced at once
    dial_patience: float = 2.0  # slow networks need four long round trips
    dial_seconds: float = 10.0
    redial: Span = (0.1, 2.0)  # between rounds: a twentieth of how long no carrier was up
    least_pause: float = 0.2  # before a route whose back-off ended is looked for again
    look_again: float = 5.0  # memory may have become short, or free again
    steady_after: float = 5.0  # a carrier that broke sooner failed
    lived_after: float = 0.5  # a blocked connection is cut sooner, if it gets so far at all
    handshake_patience: float = 1.0  # that a connection may stand open before its handshake


class Timings(Struct, frozen=True):
    """All of them."""

    race: RaceTimings = RaceTimings()
    pool: PoolTimings = PoolTimings()
    stream: StreamTimings = StreamTimings()
    probe: ProbeTimings = ProbeTimings()
    health: HealthTimings = HealthTimings()
    vitals: VitalsTimings = VitalsTimings()
    relief: ReliefTimings = ReliefTimings()
    backoff: BackoffTimings = BackoffTimings()
    carriers: CarrierTimings = CarrierTimings()
