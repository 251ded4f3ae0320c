"""The next carrier is as unlike the others as possible, and by a route that may be tried."""

from __future__ import annotations

from dataclasses import replace

import pytest

from circumvent.api import ByteStream, DialError, DialerWrapper
from circumvent.tunnels.backoff import Backoff
from circumvent.tunnels.carrier_routes import CarrierRoute, CarrierRoutes, RouteHistory, find_routes
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


class FakeDialer(DialerWrapper):
    """Knows addresses, and notes which host a connection is made to."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.connected: list[str] = []

    async def resolve(self, name: str) -> tuple[str, ...]:
        if not self.addresses:
            raise DialError(f"{name} does not resolve", stage="resolve")
        return self.addresses

    async def tcp(self, host: str, port: int) -> ByteStream:
        self.connected.append(host)
        raise DialError("nobody there", stage="tcp", errno=port)


@pytest.mark.parametrize(
    ("addresses", "names"),
    [
        (
            ["192.0.2.1", "2001:db8::1"],
            ["tls IPv4", "websocket IPv4", "tls IPv6", "websocket IPv6"],
        ),
        (["192.0.2.1", "192.0.2.2"], ["tls", "websocket"]),
        ([], ["tls", "websocket"]),
    ],
)
async def test_each_carrier_has_a_route_by_each_version_of_ip(
    addresses: list[str], names: list[str]
) -> None:
    through = FakeDialer()
    routes = await find_routes([TLS, WEBSOCKET], "a.test", FakeDialer(*addresses), through)
    assert [route.name for route in routes if not route.is_indirect] == names
    indirect = [route for route in routes if route.is_indirect]
    assert [route.name for route in indirect] == [
        "tls through tunnels",
        "websocket through tunnels",
    ]
    assert all(route.dialer is through for route in indirect)


async def test_a_route_of_one_version_connects_to_an_address_of_that_version() -> None:
    dialer = FakeDialer("192.0.2.1", "2001:db8::1")
    routes = await find_routes([TLS], "a.test", dialer, None)
    for route in routes:
        with pytest.raises(DialError):
            await route.dialer.tcp("a.test", 1)
    dialer.addresses = ("192.0.2.1",)
    with pytest.raises(DialError):
        await routes[1].dialer.tcp("a.test", 1)
    assert dialer.connected == ["192.0.2.1", "2001:db8::1", "a.test"]


@pytest.mark.virtual_time
async def test_on_another_network_old_failures_and_handshakes_say_nothing() -> None:
    past = RouteHistory(Backoff(BackoffTimings(pauses=(60.0,))))
    (direct,) = made = make_routes()[:1]
    clock = loop_clock()
    routes = CarrierRoutes(made, past, clock=clock)
    await routes.await_handshake(direct, "one name")
    routes.failed(direct, clock.now())
    assert routes.choose([], clock.now()) is None
    assert routes.choose_alone([], clock.now()) is None
    routes.forget()
    assert routes.choose([], clock.now()) is direct


@pytest.mark.virtual_time
async def test_routes_that_show_one_server_name_share_its_count() -> None:
    past = RouteHistory(Backoff(BackoffTimings(pauses=(0.5, 60.0))))
    direct, other, elsewhere = made = make_routes()[:3]
    clock = loop_clock()
    routes = CarrierRoutes(made, past, clock=clock)
    await routes.await_handshake(direct, "one name")
    started = clock.now()
    await routes.await_handshake(other, "one name")
    assert clock.now() - started >= 0.5
    assert routes.choose_alone([], clock.now()) is elsewhere
    with pytest.raises(DialError):
        await routes.await_handshake(direct, "one name")
    await routes.await_handshake(elsewhere, "another name")
    routes.lived(other)
    assert routes.choose_alone([], clock.now()) is other
