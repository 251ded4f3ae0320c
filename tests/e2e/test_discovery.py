"""From one invite to a page over any channel that works, with real name and web servers."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

import pytest

from circumvent.api import Privacy
from circumvent.discovery.discovery import Discovery
from circumvent.discovery.origins import parse_origin
from circumvent.discovery.resources import Dialers, DiscoveryResources
from circumvent.discovery.timings import DiscoveryTimings
from circumvent.layers.tls.client import TlsClient
from circumvent.memory import Memory
from circumvent.net.dialer import NetDialer
from circumvent.plugins import load_plugins
from circumvent.state.store import Store
from circumvent.status.events import DiscoveryFailed, Event
from circumvent.tunnels.candidate import Candidate
from tests.bench.contenders import Contender, own_files, started_origin
from tests.bench.load import Load, LoadError, Through
from tests.e2e.world import CHANNELS, World, listeners_that_never_answer, sign, world
from tests.peers.certificates import Certificate, make_certificate
from tests.peers.process import Process, free_port
from tests.peers.servers import sing_box_server
from tests.peers.services import HOST, SHADOWSOCKS, Server

MIB = 1 << 20
TIMINGS = DiscoveryTimings()
PAGE = 4096
COMBINATIONS = [
    alive for count in range(1, len(CHANNELS) + 1) for alive in combinations(CHANNELS, count)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("discovery")


@pytest.fixture(scope="module")
def certificate(folder: Path) -> Certificate:
    return make_certificate(folder)


@pytest.fixture(scope="module")
def server(folder: Path, certificate: Certificate) -> Iterator[Server]:
    with sing_box_server(SHADOWSOCKS[0], folder, certificate) as server:
        yield server


@pytest.fixture(scope="module")
def operated(folder: Path, certificate: Certificate, server: Server) -> Iterator[World]:
    with world(folder, certificate, [server.endpoint.link]) as operated:
        yield operated


@pytest.fixture(scope="module")
def page(folder: Path) -> Iterator[int]:
    with started_origin(folder) as port:
        yield port


class Hunter:
    """Runs discovery with the real plugins and measures how long it takes."""

    def __init__(
        self, certificate: Certificate, state: Path, timings: DiscoveryTimings = TIMINGS
    ) -> None:
        self.store = Store(state)
        self.direct = NetDialer(TlsClient(str(certificate.authority)))
        self.memory = Memory(16 * MIB)
        self.events: list[Event] = []
        self.links: Sequence[str] = ()
        self.done = asyncio.Event()
        self.ends_with_a_failure = True
        self.awaited = ""
        self.timings = timings

    def offer(self, found: Sequence[Candidate], _: Counter[Privacy]) -> None:
        self.links = [candidate.entry.link for candidate in found]
        if self.awaited in self.links if self.awaited else self.links:
            self.done.set()

    def note(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, DiscoveryFailed) and self.ends_with_a_failure:
            self.done.set()

    async def hunt(self, links: Sequence[str]) -> float:
        """Seconds until servers were found or all sources had failed."""
        plugins = load_plugins()
        resources = DiscoveryResources(
            plugins.channels,
            plugins.transports,
            Dialers(lambda _: self.direct, self.direct, lambda: False),
            self.memory,
            self.store,
            timings=self.timings,
        )
        discovery = Discovery(resources, self.note, self.offer)
        started = time.monotonic()
        task = asyncio.ensure_future(discovery.run(map(parse_origin, links)))
        try:
            async with asyncio.timeout(TIMINGS.hunt.hunt + 1):
                await self.done.wait()
            return time.monotonic() - started
        finally:
            task.cancel()
            await asyncio.wait([task])
            self.store.close()


@pytest.mark.parametrize("alive", COMBINATIONS, ids="+".join)
async def test_any_channel_that_still_works_is_enough(
    operated: World, certificate: Certificate, server: Server, tmp_path: Path, alive: Sequence[str]
) -> None:
    hunter = Hunter(certificate, tmp_path / "state.db")
    # A subscription is an origin of its own: its failure must not end the wait for the others.
    hunter.ends_with_a_failure = False
    seconds = await hunter.hunt(operated.links(alive))
    assert set(hunter.links) == {server.endpoint.link}
    assert seconds < TIMINGS.hunt.hunt


async def test_an_old_list_replayed_by_dns_does_not_hide_a_newer_one(
    certificate: Certificate, tmp_path: Path
) -> None:
    """The only server of the old list is dead, and the zone still holds that list."""
    old, new = ("ss://YWVzLTEyOC1nY206eA@192.0.2.1:1", "ss://YWVzLTEyOC1nY206eA@192.0.2.2:2")
    state = tmp_path / "state.db"
    with world(tmp_path, certificate, [old]) as operated:
        await Hunter(certificate, state).hunt([operated.invite([operated.sources["dns"]])])
        newer = sign(tmp_path, tmp_path / "keys" / "key", [new], int(time.time()) + 1000)
        (tmp_path / "site" / "bundle").write_bytes(newer.read_bytes())
        hunter = Hunter(certificate, state, DiscoveryTimings(dark_after=(0.5,)))
        hunter.awaited = new
        sources = [operated.sources[name] for name in ("dns", "https")]
        seconds = await hunter.hunt([operated.invite(sources)])
    print(f"\nthe newer list came after {seconds:.1f} s")
    assert list(hunter.links) == [new]


async def test_when_all_sources_fail_the_user_is_told_what_was_tried_and_why(
    operated: World, certificate: Certificate, tmp_path: Path
) -> None:
    hunter = Hunter(certificate, tmp_path / "state.db")
    seconds = await hunter.hunt(operated.links((), CHANNELS[:4]))
    (failed,) = (event for event in hunter.events if isinstance(event, DiscoveryFailed))
    print(f"\nall dead, told after {seconds:.2f} s: {failed}")
    assert seconds < TIMINGS.hunt.hunt
    assert len(failed.reasons) == 4
    for name in CHANNELS[:4]:
        label = operated.dead[name].partition("?")[0].removesuffix("/bundle")
        assert any(reason.startswith(f"{label}: ") for reason in failed.reasons), label


async def test_silent_sources_are_reported_within_the_stated_time(
    operated: World, certificate: Certificate, tmp_path: Path
) -> None:
    with listeners_that_never_answer(2) as (resolver, web):
        invite = operated.invite(
            [
                f"dns:list.far.test?resolver=tcp://{HOST}:{resolver}",
                f"https://{HOST}:{web}/bundle",
                f"fronted+https://{HOST}:{web}/bundle?host=hidden.far.test",
            ]
        )
        hunter = Hunter(certificate, tmp_path / "state.db")
        seconds = await hunter.hunt([invite])
    (failed,) = (event for event in hunter.events if isinstance(event, DiscoveryFailed))
    print(f"\nall silent, told after {seconds:.1f} s: {failed}")
    assert seconds < TIMINGS.hunt.hunt
    assert len(failed.reasons) == 3


async def test_how_long_each_channel_takes_alone_and_raced(
    operated: World, certificate: Certificate, tmp_path: Path
) -> None:
    times = {}
    for name in (*CHANNELS, "raced"):
        hunter = Hunter(certificate, tmp_path / f"{name}.db")
        known = CHANNELS[:3] if name == "raced" else (name,)
        times[name] = await hunter.hunt(operated.links(known, known))
        assert hunter.links
    print(
        "\nfrom start to a verified list: " + ", ".join(f"{k} {v:.2f} s" for k, v in times.items())
    )
    assert max(times.values()) < 5


def circumvent(links: Sequence[str], certificate: Certificate, port: int, page: int) -> Contender:
    """``circumvent run`` that trusts the test's authority like those of the system."""

    def command(*_: object) -> list[str]:
        probe = f"http://{HOST}:{page}/generate_204"
        options = ["--allow-private", "--listen", f"{HOST}:{port}", "--probe-url", probe]
        trust = f"SSL_CERT_FILE={certificate.authority}"
        return ["env", trust, sys.executable, "-m", "circumvent", "run", *links, *options]

    return Contender("circumvent", command)


@pytest.mark.parametrize("name", CHANNELS)
def test_a_page_comes_through_with_only_an_invite(
    operated: World, certificate: Certificate, page: int, tmp_path: Path, name: str
) -> None:
    port = free_port()
    contender = circumvent(operated.links((name,)), certificate, port, page)
    started = time.monotonic()
    with Process(
        contender.command((), port, tmp_path, ""), tmp_path / "log", env=own_files(tmp_path)
    ) as process:
        process.await_port(port)
        process.await_that(lambda: fetches(Through(port, page)), "fetched a page")
        print(f"\n{name} alone: a page after {time.monotonic() - started:.1f} s")
        assert server_is_not_shown(process.log)


def fetches(through: Through) -> bool:
    try:
        load = Load(through)
        load.run([load.fetch(PAGE)], at_once=1)
    except (LoadError, OSError):
        return False
    return True


def server_is_not_shown(log: str) -> bool:
    """No secret of a link or an invite is printed."""
    return "ss://" not in log and "trust=" not in log and "secret" not in log


def test_names_from_others_do_not_lead_to_services_of_this_machine(
    operated: World, certificate: Certificate, tmp_path: Path
) -> None:
    """Neither an invite's mirrors and resolvers nor a subscription's servers lead there."""
    with socket.create_server((HOST, 0)) as service, socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.bind((HOST, 0))
        port, far = service.getsockname()[1], udp.getsockname()[1]
        invite = operated.invite(
            [
                f"https://{HOST}:{port}/b",
                f"https://localhost:{port}/b",
                f"fronted+https://{HOST}:{port}/b?host=h.test",
                f"dns:list.test?resolver=udp://{HOST}:{far}&resolver=tcp://{HOST}:{port}",
            ]
        )
        links = [invite, operated.sources["subscription"]]
        command = [sys.executable, "-m", "circumvent", "run", *links]
        command += ["--listen", f"{HOST}:{free_port()}", "--state-dir", str(tmp_path)]
        trust = {**own_files(tmp_path), "SSL_CERT_FILE": str(certificate.authority)}
        with Process(command, tmp_path / "log", env=trust) as process:
            process.await_that(
                lambda: process.log.count("leads to this machine or a private network") >= 4,
                "refused the servers of the list and the places of the invite",
                timeout=30,
            )
        service.setblocking(False)
        udp.setblocking(False)
        with pytest.raises(BlockingIOError):
            service.accept()
        with pytest.raises(BlockingIOError):
            udp.recv(1)


def test_discover_tries_sources_by_hand(
    operated: World, certificate: Certificate, tmp_path: Path
) -> None:
    sources = [f"--source={operated.sources[name]}" for name in ("dns", "https", "fronted")]
    answer = subprocess.run(
        [
            *(sys.executable, "-m", "circumvent", "discover", "--json", "--allow-private"),
            *sources,
            f"--source={operated.dead['https']}",
            f"--key={operated.key}",
        ],
        env={**own_files(tmp_path), "SSL_CERT_FILE": str(certificate.authority)},
        check=True,
        capture_output=True,
        timeout=60,
    )
    found = {each["source"]: each for each in json.loads(answer.stdout)}
    for name in ("dns", "https", "fronted"):
        assert found[operated.sources[name]]["verdict"] == "ok"
        assert len(found[operated.sources[name]]["entries"]) == 1
    assert found[operated.dead["https"]]["verdict"] == "unreachable"
