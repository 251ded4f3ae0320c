"""The next carrier is as unlike the others as possible, and by a route that may be tried."""

from __future__ import annotations

from dataclasses import replace

import pytest

from circumvent.api import DialError
from circumvent.tunnels.backoff import Backoff
from circumvent.tunnels.carrier_routes import CarrierRoute, CarrierRoutes, RouteHistory
from circumvent.tunnels.timings import BackoffTimings
from tests.bonding.relays import ClearCarrier
from tests.virtual.loop import loop_clock

TLS, WEBSOCKET = ClearCarrier("tls"), ClearCarrier("websocket")


def make_routes() -> list[CarrierRoute]:
    dialer = object()
    return [
        CarrierRoute(carrier, dialer, network)  # type: ignore[arg-type]
        for network in ("IPv4", "IPv6")
        for carrier in (TLS, WEBSOCKET)
    ]


def test_first_another_network_and_kind_then_the_rest() -> None:
    routes = CarrierRoutes(make_routes())
    used: list[CarrierRoute] = []
    for _ in range(4):
        route = routes.choose(used, 0.0)
        assert route is not None
        used.append(route)
    assert [route.name for route in used[:2]] == ["tls IPv4", "websocket IPv6"]
    assert len(set(used)) == 4


def test_after_a_failure_others_are_tried_first() -> None:
    made = make_routes()
    routes = CarrierRoutes(made)
    routes.failed(made[0], 10.0)
    assert routes.choose([], 10.3) is made[1]
    assert routes.choose([], 10.5) is made[0]


def test_while_no_carrier_is_up_only_handshakes_are_spared() -> None:
    made = make_routes()[:1]
    routes = CarrierRoutes(made)
    for _ in range(9):
        routes.failed(made[0], 10.0)
    assert routes.choose([], 20.0) is None
    assert routes.choose_alone([], 20.0) is made[0]


def test_while_none_is_up_every_route_gets_its_turn() -> None:
    made = make_routes()
    routes = CarrierRoutes(made)
    tried = []
    for now in range(10, 14):
        route = routes.choose_alone([], now)
        assert route is not None
        tried.append(route)
        routes.failed(route, now)
    assert tried == made
    assert routes.choose_alone([], 14.0) is made[0]


def test_tunnels_of_others_are_tried_when_every_direct_route_failed_or_hangs() -> None:
    direct, hanging = make_routes()[:2]
    indirect = replace(direct, network="through tunnels", is_indirect=True)
    routes = CarrierRoutes([direct, hanging, indirect])
    assert routes.choose_alone([], 10.0) is direct
    routes.failed(direct, 10.0)
    assert routes.choose_alone([], 10.1) is hanging
    assert routes.choose_alone([hanging], 10.1) is indirect


@pytest.mark.virtual_time
async def test_routes_that_show_one_server_name_share_its_count() -> None:
    past = RouteHistory(Backoff(BackoffTimings(pauses=(0.5, 60.0))))
    direct, other, elsewhere = made = make_routes()[:3]
    clock = loop_clock()
    routes = CarrierRoutes(made, past, clock=clock)
    await routes.greet(direct, "one name")
    started = clock.now()
    await routes.greet(other, "one name")
    assert clock.now() - started >= 0.5
    assert routes.choose_alone([], clock.now()) is elsewhere
    with pytest.raises(DialError):
        await routes.greet(direct, "one name")
    await routes.greet(elsewhere, "another name")
    routes.lived(other)
    assert routes.choose_alone([], clock.now()) is other
