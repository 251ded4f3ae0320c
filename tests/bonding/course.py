"""A bonded tunnel over shaped paths to a relay: what users get, with and without faults."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from circumvent.api import Account, Carrier, CarrierPipe, Cost, Dialer, ServerEntry, TlsOptions
from circumvent.layers.exchange import send
from circumvent.layers.tls.client import TlsClient
from circumvent.layers.tls.layer import TlsLayer
from circumvent.memory import LARGEST, Memory
from circumvent.net.dialer import NetDialer
from circumvent.tunnels.bonded import BondedTunnel
from circumvent.tunnels.carrier_routes import CarrierRoute, CarrierRoutes
from circumvent.wire.address import Destination
from tests.bonding.shaper import address
from tests.peers.certificates import SERVER_NAME, make_certificate

ROOT = Path(__file__).parents[2]
RATE = 20e6 / 8
PATHS = ((RATE, 0.010), (RATE, 0.030), (RATE, 0.075))
THERE = Destination("origin.test", 80)


class TlsCarrier(Carrier):
    """TLS over one path."""

    cost = Cost(dial=60 * 1024, stream=35 * 1024)

    def __init__(self, path: int, port: int) -> None:
        self.name, self.host, self.port = f"path{path}", address(path), port

    async def connect(self, _: ServerEntry, dialer: Dialer, __: Account) -> CarrierPipe:
        stream = await dialer.tcp(self.host, self.port)
        secure = await TlsLayer(TlsOptions(SERVER_NAME)).start(stream)
        return CarrierPipe(secure, secure.channel_binding())


@dataclass(eq=False)
class Course:
    """What runs: the tunnel, and how to hurt its paths."""

    tunnel: BondedTunnel
    account: Account
    shaper: asyncio.subprocess.Process
    gaps: list[float] = field(default_factory=list)
    reorder: list[int] = field(default_factory=list)
    faults: int = 0

    @property
    def repeated(self) -> int:
        """Bytes that came twice."""
        return self.tunnel._session.engine.state.repeated  # noqa: SLF001

    def order(self, line: str) -> None:
        assert self.shaper.stdin is not None
        self.shaper.stdin.write(f"{line}\n".encode())

    def busiest(self) -> int:
        """The path that brought most since it was connected."""
        best = max(self.tunnel.carriers, key=lambda carrier: carrier.bytes_down)
        return int(best.kind.removeprefix("path"))

    async def download(self, size: int, watch: Callable[[], None] = lambda: None) -> float:
        """Seconds from the request to the last byte, which are checked."""
        loop = asyncio.get_running_loop()
        block = memoryview(bytearray(LARGEST))
        expected = (bytes(range(256)) * (LARGEST // 256 + 1))[: LARGEST + 256]
        started = loop.time()
        stream = await self.tunnel.open(THERE)
        await send(stream, self.account, f"{size}\n".encode())
        got, last = 0, started
        self.gaps.clear()
        self.reorder.clear()
        while True:
            await stream.wait_readable()
            count = stream.read_into(block)
            if count is None:
                continue
            now = loop.time()
            if count == 0:
                break
            at = got % 256
            assert block[:count] == expected[at : at + count], "other bytes than were sent"
            got += count
            if got > count:
                self.gaps.append(now - last)
            last = now
            self.reorder.append(waiting(stream))
            watch()
        assert got == size
        await stream.aclose()
        return loop.time() - started


def waiting(stream: object) -> int:
    """Bytes that came too early."""
    inbox = stream._stream.inbox  # type: ignore[attr-defined]  # noqa: SLF001
    return sum(piece.end - piece.start for piece in inbox.gaps.values()) if inbox else 0


async def start(*argv: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *argv,
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )


async def said(process: asyncio.subprocess.Process) -> list[int]:
    assert process.stdout is not None
    return [int(word) for word in (await process.stdout.readline()).split()]


@contextlib.asynccontextmanager
async def course(
    folder: Path, paths: Sequence[tuple[float, float]] = PATHS
) -> AsyncIterator[Course]:
    """``paths`` are rates and delays."""
    certificate = make_certificate(folder)
    relay = await start("tests.bonding.lab", str(certificate.chain), str(certificate.key))
    shaper = None
    try:
        (port,) = await said(relay)
        shapes = [f"{rate}:{delay}" for rate, delay in paths]
        shaper = await start("tests.bonding.shaper", str(port), *shapes)
        ports = await said(shaper)
        memory = Memory(32 << 20)
        account = memory.account("tunnel")
        dialer = NetDialer(TlsClient(str(certificate.authority)))
        routes = [CarrierRoute(TlsCarrier(path, each), dialer) for path, each in enumerate(ports)]
        entry = ServerEntry("relay", "127.0.0.1", port, "", "relay://x", None)
        tunnel = BondedTunnel(entry, CarrierRoutes(routes), account, lambda _: b"")
        try:
            await tunnel.start()
            while len(tunnel.carriers) < len(ports):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.5)
            yield Course(tunnel, account, shaper)
        finally:
            await tunnel.aclose()
    finally:
        for process in (shaper, relay):
            if process is not None:
                process.kill()
                await process.wait()


async def faults(lane: Course, what: str, every: float, outage: float) -> None:
    """Hurt the busiest path again and again, or ``all`` for the time of an outage."""
    while True:
        await asyncio.sleep(every)
        lane.faults += 1
        if what == "all":
            lane.order("down")
            await asyncio.sleep(outage)
            lane.order("up")
        else:
            lane.order(f"{what} {lane.busiest()}")
