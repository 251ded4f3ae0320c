"""What a bonded tunnel dials next, as a function of its slots, routes and the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from circumvent.tunnels.carrier_plan import (
    DIALS,
    DIALS_ALONE,
    Plan,
    PlanState,
    Situation,
    make_plan,
)
from circumvent.tunnels.carrier_routes import CarrierRoute
from circumvent.tunnels.timings import CarrierTimings
from tests.bonding.relays import ClearCarrier
from tests.virtual.network import MemoryDialer

TIMINGS = CarrierTimings()
NOW = 100.0
ROUTES = [CarrierRoute(ClearCarrier(name), MemoryDialer().for_plugins) for name in "abcd"]
A, B, C, D = ROUTES
CALM = PlanState(up_at=NOW - 1, redial_at=NOW - 1, reached=3)


@dataclass(frozen=True)
class FakeSlot:
    route: CarrierRoute
    started: float = NOW - 1
    is_dialing: bool = False
    is_up: bool = False
    rtt: float = 0.1


def up(route: CarrierRoute, rtt: float = 0.1) -> FakeSlot:
    return FakeSlot(route, is_up=True, rtt=rtt)


def dialing(route: CarrierRoute, started: float = NOW - 1) -> FakeSlot:
    return FakeSlot(route, started, is_dialing=True)


def suspected(route: CarrierRoute) -> FakeSlot:
    return FakeSlot(route)


class InTurn:
    """Routes that may be tried, those that are used least first."""

    def __init__(self, routes: Sequence[CarrierRoute], ready_at: float = NOW) -> None:
        self.routes = routes
        self.ready_at = ready_at

    def choose(self, used: Sequence[CarrierRoute], now: float) -> CarrierRoute | None:
        return min(self.routes, key=used.count, default=None) if self.ready_at <= now else None

    choose_alone = choose

    def next_at(self) -> float:
        return self.ready_at


def plan(
    *slots: FakeSlot,
    routes: InTurn | None = None,
    before: PlanState = CALM,
    wanted: int = 3,
    is_cut_off: bool = True,
) -> Plan[FakeSlot]:
    moment = Situation(
        routes or InTurn(ROUTES), TIMINGS, NOW, wanted, is_cut_off=is_cut_off, grow_after=1.5
    )
    return make_plan(slots, before, moment)


class TestWithCarriers:
    def test_when_all_are_up_nothing_is_dialed(self) -> None:
        made = plan(up(A), up(B), up(C))
        assert (made.dials, made.give_up, made.drop) == ((), (), None)
        assert made.wait == TIMINGS.look_again

    def test_what_is_lost_is_replaced_at_once_by_other_routes(self) -> None:
        assert plan(up(A)).dials == (B, C)

    def test_a_suspected_carrier_is_replaced_as_if_it_were_lost(self) -> None:
        assert plan(up(A), up(B), suspected(C)).dials == (C,)

    def test_no_more_than_two_are_dialed_at_once(self) -> None:
        made = plan(up(A), dialing(B), wanted=5, before=replace(CALM, reached=5))
        assert len(made.dials) == DIALS - 1

    def test_one_more_than_before_waits_for_its_time(self) -> None:
        before = replace(CALM, reached=1, grow_at=NOW + 0.5)
        made = plan(up(A), before=before)
        assert (made.dials, made.wait) == ((), 0.5)

    def test_one_more_is_dialed_when_it_is_time_and_the_next_waits_again(self) -> None:
        made = plan(up(A), before=replace(CALM, reached=1, grow_at=NOW))
        assert made.dials == (B,)
        assert made.state.grow_at == NOW + 1.5
        assert made.wait == 1.5

    def test_the_first_carrier_starts_the_wait_for_the_second(self) -> None:
        made = plan(up(A), before=replace(CALM, reached=0))
        assert (made.dials, made.state.reached, made.state.grow_at) == ((), 1, NOW + 1.5)

    def test_while_no_route_may_be_tried_it_waits_for_one(self) -> None:
        assert plan(up(A), routes=InTurn(ROUTES, NOW + 3.0)).wait == 3.0
        assert plan(up(A), routes=InTurn(ROUTES, NOW + 0.01)).wait == TIMINGS.least_pause

    def test_one_route_carries_several(self) -> None:
        assert plan(up(A), routes=InTurn([A])).dials == (A, A)

    def test_two_by_one_route_make_room_for_one_by_another(self) -> None:
        assert plan(up(A), up(A), up(B)).dials == (C,)
        assert plan(up(A), up(A), up(B), routes=InTurn([A, B])).dials == ()
        made = plan(up(A, rtt=0.2), up(A, rtt=0.1), up(B, rtt=0.9), up(C))
        assert made.drop == up(A, rtt=0.2)

    def test_the_slowest_of_too_many_is_dropped(self) -> None:
        assert plan(up(A), up(B, rtt=0.5), up(C), up(D)).drop == up(B, rtt=0.5)
        assert plan(up(A), up(B, rtt=0.5), wanted=1).drop == up(B, rtt=0.5)

    def test_dials_that_came_too_late_are_given_up(self) -> None:
        assert plan(up(A), up(B), up(C), dialing(D)).give_up == (dialing(D),)
        assert plan(up(A), up(B), up(B), dialing(D)).give_up == ()
        assert plan(up(A), up(B), up(B), dialing(A)).give_up == (dialing(A),)
        assert plan(up(A), up(B), dialing(C)).give_up == ()


class TestWithout:
    def test_a_round_dials_as_many_routes_as_are_wanted(self) -> None:
        made = plan(before=PlanState(up_at=NOW))
        assert made.dials == (A, B, C)
        assert made.wait == TIMINGS.redial[0]

    def test_one_dial_is_enough_while_a_suspect_may_recover_or_the_session_is_new(self) -> None:
        assert plan(suspected(A), is_cut_off=False).dials == (A,)

    def test_between_rounds_it_waits(self) -> None:
        made = plan(before=PlanState(up_at=NOW - 10, redial_at=NOW + 0.25))
        assert (made.dials, made.wait) == ((), 0.25)

    def test_rounds_become_rarer_the_longer_no_carrier_is_up(self) -> None:
        rounds = [plan(before=PlanState(up_at=NOW - for_)) for for_ in (0.0, 20.0, 500.0)]
        assert [made.wait for made in rounds] == [0.1, 1.0, 2.0]
        assert [made.state.redial_at - NOW for made in rounds] == pytest.approx([0.1, 1.0, 2.0])

    def test_a_route_that_is_being_dialed_is_dialed_once_more_each_round(self) -> None:
        assert plan(dialing(A), routes=InTurn([A])).dials == (A,)
        assert plan(routes=InTurn([A])).dials == (A,)

    def test_while_no_route_may_be_tried_nothing_is_dialed(self) -> None:
        assert plan(routes=InTurn([])).dials == ()

    def test_of_many_that_hang_the_oldest_gives_way(self) -> None:
        old = dialing(A, NOW - TIMINGS.dial_patience)
        others = [dialing(B, NOW - 1) for _ in range(DIALS_ALONE - 1)]
        made = plan(*others, old, is_cut_off=False)
        assert (made.dials, made.give_up) == ((C,), (old,))

    def test_dials_that_may_still_succeed_are_left_alone(self) -> None:
        made = plan(*(dialing(B, NOW - 1) for _ in range(DIALS_ALONE)))
        assert (made.dials, made.give_up) == ((), ())

    def test_the_state_remembers_when_a_carrier_was_last_up(self) -> None:
        assert plan(up(A)).state.up_at == NOW
        assert plan(dialing(A)).state.up_at == CALM.up_at
