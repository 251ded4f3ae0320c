"""Which carriers a bonded tunnel dials next, and which it lets go: a pure function.

A carrier that is suspected is replaced at once. While none is up, rounds of dials start ten times
a second, later less often, however long the earlier ones hang.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from circumvent.tunnels.carrier_routes import CarrierRoute
from circumvent.tunnels.timings import CarrierTimings

CARRIERS = 3  # kept up: one may break while another is being replaced
DIALS = 2  # at once; handshakes in numbers are noticed
DIALS_ALONE = 6  # while no carrier is up; of those that hang, the oldest gives way to a new one


class Slot(Protocol):
    """A dial, and the carrier that it became."""

    @property
    def route(self) -> CarrierRoute:
        """By which it goes."""

    @property
    def started(self) -> float:
        """When it was dialed."""

    @property
    def is_dialing(self) -> bool:
        """Whether it is no carrier yet."""

    @property
    def is_up(self) -> bool:
        """Whether it is a carrier above suspicion."""

    @property
    def rtt(self) -> float:
        """Round-trip time of the carrier, in seconds."""


class Routes(Protocol):
    """What the plan asks the routes for; ``CarrierRoutes`` has it."""

    def choose(self, used: Sequence[CarrierRoute], now: float) -> CarrierRoute | None:
        """The next route beside those ``used``."""

    def choose_alone(self, used: Sequence[CarrierRoute], now: float) -> CarrierRoute | None:
        """The next route while no carrier is up."""

    def next_at(self) -> float:
        """When there is one again."""


S = TypeVar("S", bound=Slot)


@dataclass(frozen=True, slots=True)
class PlanState:
    """What one plan leaves for the next; times as ``Clock.now``.

    ``up_at`` is when a carrier was last up, ``redial_at`` the next round of dials while none is.
    The session had ``reached`` carriers at a time so far; one more is dialed from ``grow_at`` on.
    """

    up_at: float
    redial_at: float = 0.0
    reached: int = 0
    grow_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Situation:
    """The moment, and what the plan goes by. ``wanted`` carriers are kept up.

    ``is_cut_off``: the relay knows the session, and no carrier is left, not even a suspected one.
    ``grow_after``: seconds from one carrier more to the next, drawn anew for each plan.
    """

    routes: Routes
    timings: CarrierTimings
    now: float
    wanted: int
    is_cut_off: bool
    grow_after: float


@dataclass(frozen=True, slots=True)
class Plan(Generic[S]):
    """Dial these routes, give these dials up, close this carrier; plan again in ``wait`` seconds.

    Sooner, if something changes.
    """

    state: PlanState
    wait: float
    dials: tuple[CarrierRoute, ...] = ()
    give_up: tuple[S, ...] = ()
    drop: S | None = None


def make_plan(slots: Sequence[S], before: PlanState, moment: Situation) -> Plan[S]:
    """What to do now."""
    up = [slot for slot in slots if slot.is_up]
    dialing = [slot for slot in slots if slot.is_dialing]
    if not up:
        return _redial(dialing, before, moment)
    state = replace(before, up_at=moment.now, redial_at=moment.now)
    if len(up) > state.reached:
        grow_at = moment.now + moment.grow_after
        state = replace(state, reached=len(up), grow_at=grow_at)
    plan = _fill(up, dialing, state, moment)
    return replace(
        plan,
        give_up=_needless(up, dialing, moment.wanted),
        drop=_spare(up) if len(up) > moment.wanted else None,
    )


def _fill(up: Sequence[S], dialing: Sequence[S], state: PlanState, moment: Situation) -> Plan[S]:
    """Dial what is missing beside the carriers that are up."""
    now, wanted, routes, timings = moment.now, moment.wanted, moment.routes, moment.timings
    used = [slot.route for slot in (*up, *dialing)]
    dials: list[CarrierRoute] = []
    wait = timings.look_again
    while len(dialing) + len(dials) < DIALS and _may_add(used, wanted):
        is_one_more = len(used) >= state.reached
        if is_one_more and now < state.grow_at:
            wait = state.grow_at - now
            break
        route = routes.choose(used, now)
        if len(used) >= wanted and (route is None or route in used):
            break
        if route is None:
            wait = max(timings.least_pause, routes.next_at() - now)
            break
        dials.append(route)
        used.append(route)
        if is_one_more:
            state = replace(state, grow_at=now + moment.grow_after)
    return Plan(state, wait, tuple(dials))


def _may_add(used: Sequence[CarrierRoute], wanted: int) -> bool:
    """Whether carriers are missing, or one of two by the same route might make room."""
    return len(used) < wanted or (len(used) == wanted and _repeat(used))


def _redial(dialing: Sequence[S], state: PlanState, moment: Situation) -> Plan[S]:
    """No carrier is up: a round of dials, when it is time."""
    now, routes, timings = moment.now, moment.routes, moment.timings
    if now < state.redial_at:
        return Plan(state, state.redial_at - now)
    used = [slot.route for slot in dialing]
    hanging = sorted(dialing, key=lambda slot: slot.started)
    dials: list[CarrierRoute] = []
    given_up: list[S] = []
    for _ in range(moment.wanted if moment.is_cut_off else 1):
        route = routes.choose_alone(used, now)
        if route is None or (route in used and dials):
            break  # a route that is being dialed is dialed again as the first of a round only
        if len(hanging) + len(dials) >= DIALS_ALONE:
            if not hanging or now < hanging[0].started + timings.dial_patience:
                break
            given_up.append(hanging.pop(0))
        dials.append(route)
        used.append(route)
    least, most = timings.redial
    pause = min(max((now - state.up_at) / 20, least), most)
    state = replace(state, redial_at=now + pause)
    return Plan(state, pause, tuple(dials), tuple(given_up))


def _needless(up: Sequence[S], dialing: Sequence[S], wanted: int) -> tuple[S, ...]:
    """Dials that came too late, but for one by a new route where two carriers share theirs."""
    if len(up) < wanted:
        return ()
    used = [slot.route for slot in up]
    is_wanted = len(up) == wanted and _repeat(used)
    return tuple(slot for slot in dialing if not is_wanted or slot.route in used)


def _spare(up: Sequence[S]) -> S:
    """Memory is short, or a suspect recovered after it was replaced: the slowest goes.

    Those that share their route with another go first.
    """
    used = [slot.route for slot in up]
    return max(up, key=lambda slot: (used.count(slot.route) > 1, slot.rtt))


def _repeat(routes: Sequence[CarrierRoute]) -> bool:
    return len(set(routes)) < len(routes)
