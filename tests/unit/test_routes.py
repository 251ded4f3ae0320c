"""Routes: which handshakes are counted, and which engine a connection's TLS is left to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import cast

import pytest

from circumvent.api import (
    Account,
    ByteStream,
    Carrier,
    CarrierPipe,
    Cost,
    Dialer,
    DialError,
    HandshakeError,
    LayerStream,
    PeekStream,
    Route,
    SecureStream,
    ServerEntry,
)
from circumvent.api.tls import TlsOptions
from circumvent.layers.tls.layer import TlsLayer
from circumvent.net.dialer import NetDialer
from circumvent.net.neighbourhood import STRANGERS_AT_ONCE
from circumvent.net.patience import Patience
from circumvent.net.tcp import TcpStream
from circumvent.tunnels.carrier_routes import (
    CarrierRoute,
    CarrierRoutes,
    MeteredDialer,
    MeteredRoute,
    OneFamilyDialer,
)
from circumvent.tunnels.dialer import TunnelDialer
from circumvent.wire.address import Destination

HOST = "127.0.0.1"
LAYER = TlsLayer(TlsOptions("server.test"))


class Engine:
    """A TLS engine; its handshakes last until ``may_end`` and then fail if there is a ``fault``."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.begun = 0
        self.may_end = asyncio.Event()
        self.fault = fault

    async def start(self, stream: ByteStream, options: TlsOptions) -> SecureStream:
        assert options == LAYER.options
        self.begun += 1
        await self.may_end.wait()
        if self.fault is not None:
            raise self.fault
        return cast("SecureStream", stream)

    def forget(self) -> None:
        """Nothing is remembered."""


@pytest.fixture
def port() -> Iterator[int]:
    """Of a server whose kernel answers; it accepts nothing and sends nothing."""
    with socket.create_server((HOST, 0)) as listener:
        yield listener.getsockname()[1]


@asynccontextmanager
async def dialled(port: int, engine: Engine) -> AsyncIterator[TcpStream]:
    stream = await NetDialer(engine).tcp(HOST, port)
    assert isinstance(stream, TcpStream)
    yield stream
    stream.abort()


@pytest.mark.parametrize(("inside", "begun"), [(False, STRANGERS_AT_ONCE), (True, 5)])
async def test_only_handshakes_that_are_seen_wait_for_each_other(
    port: int, *, inside: bool, begun: int
) -> None:
    engine = Engine()
    async with dialled(port, engine) as stream:
        over = LayerStream(stream) if inside else stream
        tasks = [asyncio.ensure_future(LAYER.start(over)) for _ in range(5)]
        await asyncio.sleep(0.01)
        assert engine.begun == begun
        engine.may_end.set()
        await asyncio.gather(*tasks)


@pytest.mark.parametrize("inside", [False, True])
async def test_a_handshake_with_the_server_itself_is_its_answer(port: int, *, inside: bool) -> None:
    engine = Engine()
    engine.may_end.set()
    async with dialled(port, engine) as stream, Patience() as patience:
        await LAYER.start(LayerStream(stream) if inside else stream)
        assert patience.answered is not inside


async def test_what_fails_is_closed_and_is_no_answer(port: int) -> None:
    engine = Engine(HandshakeError("no", stage="tls"))
    engine.may_end.set()
    async with dialled(port, engine) as stream, Patience() as patience:
        with pytest.raises(HandshakeError):
            await LAYER.start(stream)
        assert not stream.peer
        assert not patience.answered


async def test_tls_through_tunnels_has_an_engine_of_its_own(port: int) -> None:
    straight, inside = Engine(), Engine()
    inside.may_end.set()
    async with dialled(port, straight) as stream:

        async def open_(_: Destination) -> ByteStream:
            return LayerStream(stream)

        through = await TunnelDialer(open_, inside).tcp("server.test", 443)
        await LAYER.start(LayerStream(through))
        assert (straight.begun, inside.begun) == (0, 1)


async def test_a_stream_that_no_dialer_gave_has_no_engine(port: int) -> None:
    async with dialled(port, Engine()) as stream:
        stream.route = ByteStream.route
        with pytest.raises(RuntimeError, match="no dialer gave"):
            await LAYER.start(LayerStream(stream))


class Counting(CarrierRoutes):
    """Counts handshakes with a relay, and lets each of them begin."""

    def __init__(self) -> None:
        self.counted: list[str] = []

    async def await_handshake(self, route: CarrierRoute, name: str) -> None:
        assert route.name == "tls IPv4"
        self.counted.append(name)


class NoCarrier(Carrier):
    name = "tls"
    cost = Cost(0, 0)

    async def connect(self, entry: ServerEntry, dialer: Dialer, account: Account) -> CarrierPipe:
        raise NotImplementedError


class TwoFamilies(NetDialer):
    """Every host has an address of each version of IP; keeps what was dialled."""

    def __init__(self) -> None:
        super().__init__(Engine())
        self.dialled: list[str] = []

    async def resolve(self, name: str) -> Sequence[str]:
        return ("192.0.2.1", "2001:db8::1") if name == "both.test" else (name,)

    async def tcp(self, host: str, port: int) -> PeekStream:
        self.dialled.append(host)
        raise DialError(f"port {port} is closed", stage="tcp")


@pytest.mark.parametrize(
    ("version", "host", "dialled"),
    [
        (4, "both.test", "192.0.2.1"),
        (6, "both.test", "2001:db8::1"),
        (6, "192.0.2.7", "192.0.2.7"),
    ],
)
async def test_a_family_is_preferred_where_the_host_has_it(
    version: int, host: str, dialled: str
) -> None:
    dialer = TwoFamilies()
    with pytest.raises(DialError):
        await OneFamilyDialer(dialer, version).tcp(host, 443)
    assert dialer.dialled == [dialled]


class TestMetered:
    async def test_only_the_first_handshake_of_a_dial_is_counted(self, port: int) -> None:
        engine, routes = Engine(), Counting()
        engine.may_end.set()
        route = CarrierRoute(NoCarrier(), NetDialer(engine), "IPv4")
        for _ in range(2):
            dialer = MeteredDialer(route, routes)
            for _ in range(2):
                stream = await dialer.tcp(HOST, port)
                await LAYER.start(stream)
                await LAYER.start(LayerStream(stream))
                stream.abort()
        assert engine.begun == 8
        assert routes.counted == ["127.0.0.0/24 server.test"] * 2

    @pytest.mark.parametrize(
        ("options", "name"),
        [
            (TlsOptions("server.test"), "127.0.0.0/24 server.test"),
            (TlsOptions("server.test", send_name=False), "127.0.0.0/24 "),
        ],
    )
    async def test_it_is_counted_by_what_a_censor_sees(
        self, port: int, options: TlsOptions, name: str
    ) -> None:
        counted = []

        async def count(name: str) -> None:
            counted.append(name)
            raise DialError("enough", stage="carrier")

        engine = Engine()
        async with dialled(port, engine) as stream:
            stream.route = MeteredRoute(stream.route, "relay.test", count)
            with pytest.raises(DialError):
                await TlsLayer(options).start(stream)
            assert not stream.peer
        assert counted == [name]
        assert not engine.begun

    async def test_the_host_counts_where_no_address_is_known(self) -> None:
        counted = []

        async def count(name: str) -> None:
            counted.append(name)

        route = MeteredRoute(Route(Engine()), "relay.example.test", count)
        async with route.handshake("", "server.test"):
            assert counted == ["example.test server.test"]
        async with route.inside.handshake("", "server.test"):
            assert len(counted) == 1
