"""A prober cannot tell a relay from its cover site alone: nginx, or a site behind HAProxy."""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import pytest

from circumvent.links.relay import RelayLink, parse_relay_link
from circumvent.wire.knock import KnockKind
from tests.e2e.probing import (
    GET,
    ODDITIES,
    OFFERS,
    UNENCRYPTED,
    UPGRADE,
    Seen,
    answer_seconds,
    knock,
    knocks,
    offered,
    patience,
    same_distribution,
    see,
)
from tests.peers.certificates import Certificate
from tests.peers.haproxy import haproxy
from tests.peers.nginx import nginx_site
from tests.peers.process import Process, free_port
from tests.peers.relay import make_relay, running_relay

T = TypeVar("T", bytes, str)
AT_ONCE = 8
ROUNDS = 150
SURE = 0.0001  # so improbable a difference is called one: by chance, in one run of a thousand
# A line to another country: what a prober sees of a server is delayed by it, now more, now less.
JITTER = 0.005
NGINX = "nginx"


@dataclass(frozen=True, slots=True)
class Pair:
    """The relay's port, and that of the same site without it, with the same certificate."""

    relay: int
    bare: int
    link: RelayLink
    is_nginx: bool = False


@pytest.fixture(scope="module", params=["served by the relay", "served elsewhere", NGINX])
def pair(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("probers")
    site, directory, plain = folder / "site", folder / "relay", free_port()
    site.mkdir()
    (site / "index.html").write_text("<h1>a site like any other</h1>")
    elsewhere = request.param != "served by the relay"
    cover = f"http://127.0.0.1:{plain}" if elsewhere else str(site)
    port = make_relay(directory, "--cover", cover)
    words = [sys.executable, "-m", "tests.peers.bare_site", str(site), str(plain)]
    chain, key = directory / "identity.pem", directory / "identity.key"
    certificate = Certificate(chain, key, chain, "")
    if request.param == NGINX:
        with (
            nginx_site(folder, certificate, site, plain) as bare,
            running_relay(directory, port) as running,
        ):
            yield Pair(port, bare, parse_relay_link(running.link), is_nginx=True)
        return
    with (
        Process(words, folder / "bare.log") as process,
        running_relay(directory, port) as running,
        haproxy(folder, certificate, plain, mode="tcp") as bare,
    ):
        process.await_port(plain)
        yield Pair(port, bare, parse_relay_link(running.link))


def compare(
    pair: Pair, look: Callable[[int, Sequence[T]], object], probes: dict[str, Sequence[T]]
) -> None:
    """Check that every probe sees the same at both. Many run at a time: they mostly wait."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = {
            name: [pool.submit(look, port, pieces) for port in (pair.relay, pair.bare)]
            for name, pieces in probes.items()
        }
    seen = {name: tuple(each.result() for each in both) for name, both in asked.items()}
    different = {name: both for name, both in seen.items() if both[0] != both[1]}
    assert different == {}
    print(f"{len(seen)} probes, all answered the same")


def test_http_and_its_oddities(pair: Pair) -> None:
    compare(pair, see, ODDITIES)


def test_probers_that_leave_at_once(pair: Pair) -> None:
    """They see the same, close_notify aside: Python's ssl does not tell whether it came.

    nginx sends none to a peer that sent none; HAProxy does, and so does the relay.
    """

    def look(port: int, pieces: Sequence[bytes]) -> Seen:
        seen = see(port, pieces, leaves=True)
        return replace(seen, end="closed") if pair.is_nginx and seen.end == "cut" else seen

    compare(pair, look, ODDITIES)


def test_what_is_no_tls_or_only_half(pair: Pair) -> None:
    compare(pair, lambda port, pieces: see(port, pieces, tls=False), UNENCRYPTED)


def test_visitors_that_leave_in_mid_handshake(pair: Pair) -> None:
    compare(pair, lambda port, pieces: see(port, pieces, tls=False, leaves=True), UNENCRYPTED)


def test_what_is_agreed_by_tls(pair: Pair) -> None:
    """TLS is offered as nginx offers it, whatever the site is; alerts are those of nginx."""
    if pair.is_nginx:
        compare(pair, offered, OFFERS)


def test_wrong_knocks(pair: Pair) -> None:
    compare(pair, see, knocks(pair.link))


def test_replayed_knocks(pair: Pair) -> None:
    recorded = knock(pair.link.knock_key, KnockKind.WEBSOCKET, int(time.time()))
    assert see(pair.relay, [recorded]).data.startswith(b"HTTP/1.1 101 ")
    compare(
        pair, see, {"a replay": [recorded], "a replay in pieces": [recorded[:99], recorded[99:]]}
    )


def measured(
    port: int, request: bytes, other_port: int, other: bytes
) -> tuple[list[float], list[float]]:
    """Seconds for both, in random order so that the machine's load affects both alike."""
    one: list[float] = []
    two: list[float] = []
    turns = [(one, port, request), (two, other_port, other)]
    for _ in range(ROUNDS):
        random.shuffle(turns)
        for seconds, where, what in turns:
            seconds.append(answer_seconds(where, what))
    return one, two


GUESSED = UPGRADE % (b"Cookie: session=" + b"A" * 50 + b"\r\n")
INNOCENT = UPGRADE % (b"Cookie: visitor=" + b"A" * 50 + b"\r\n")


def test_a_wrong_knock_takes_no_other_time_than_any_request(pair: Pair) -> None:
    wrong, innocent = measured(pair.relay, GUESSED, pair.relay, INNOCENT)
    report("wrong knock", wrong, "other request", innocent)
    assert same_distribution(wrong, innocent) > SURE


def test_a_replay_takes_no_other_time_than_any_request(pair: Pair) -> None:
    recorded = knock(pair.link.knock_key, KnockKind.WEBSOCKET, int(time.time()))
    assert see(pair.relay, [recorded]).data.startswith(b"HTTP/1.1 101 ")
    innocent = knock(bytes(len(pair.link.knock_key)), KnockKind.WEBSOCKET, int(time.time()))
    replay, other = measured(pair.relay, recorded, pair.relay, innocent)
    report("replay", replay, "invalid knock", other)
    assert same_distribution(replay, other) > SURE


@pytest.mark.parametrize("request_bytes", [GET, GUESSED], ids=["page", "wrong knock"])
def test_far_away_the_relay_is_as_fast_as_the_site(pair: Pair, request_bytes: bytes) -> None:
    relay, bare = measured(pair.relay, request_bytes, pair.bare, request_bytes)
    report("relay", relay, "bare site", bare)
    line = random.Random(11)
    far, near = ([each + line.expovariate(1 / JITTER) for each in both] for both in (relay, bare))
    assert same_distribution(far, near) > SURE


def report(name: str, one: list[float], other_name: str, other: list[float]) -> None:
    shown = [f"{statistics.median(each) * 1000:.2f} ms" for each in (one, other)]
    probability = same_distribution(one, other)
    print(
        f"{name} {shown[0]}, {other_name} {shown[1]} (medians); on this machine p={probability:.3f}"
    )


@pytest.mark.prove
@pytest.mark.timeout(150)
@pytest.mark.parametrize(
    ("piece", "tls"),
    [(GET[:20], True), (GET, True), (b"\x16\x03\x01\x02\x00\x01", False)],
    ids=["head", "after a page", "ClientHello"],
)
def test_slow_visitors_are_closed_when_the_site_would(
    pair: Pair, piece: bytes, *, tls: bool
) -> None:
    with ThreadPoolExecutor(2) as pool:
        waits = [pool.submit(patience, port, piece, tls=tls) for port in (pair.relay, pair.bare)]
    relay, bare = (wait.result() for wait in waits)
    print(f"closed after {relay:.2f} s by the relay, {bare:.2f} s by the bare site")
    assert abs(relay - bare) < 0.5
