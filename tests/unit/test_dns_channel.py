"""The DNS channel against name servers and the liars in between."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, aclosing, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from circumvent.api import ChannelError, Datagrams, Fetch, LinkError, UnsupportedError, Verdict
from circumvent.layers.tls.client import TlsClient
from circumvent.memory import Memory
from circumvent.net.dialer import NetDialer
from circumvent.wire.dns_chunks import MANIFEST
from circumvent_plugins.dns_channel import DnsChannel, source
from circumvent_plugins.dns_channel.messages import AnswerKind, make_question, read_answer
from circumvent_plugins.dns_channel.source import MAX_SECURE, DnsTransport, parse_source
from circumvent_plugins.dns_channel.timings import DnsTimings
from tests.peers.names import NameServer, address_answer, answer, serving, truncated, zone_records

ZONE = "drop.test"
BUNDLE = random.Random(1).randbytes(5000)
FORGED = random.Random(2).randbytes(5000)
TRUTH = zone_records(ZONE, BUNDLE)
LIES = zone_records(ZONE, FORGED)
PATIENCE = 30.0  # seconds; where an answer comes, no deadline is waited for
TIMINGS = DnsTimings(
    fetch=PATIENCE, ask=PATIENCE, later_answers=PATIENCE, secure_first=0.1, settle=0.02
)
# Where the failure itself is waited for: longer than a busy machine holds the answers up.
FEW_ANSWERS = replace(TIMINGS, later_answers=1.0)
NO_ANSWER = replace(TIMINGS, later_answers=0.05)

Serve = Callable[[NameServer], Awaitable[str]]


class WithoutDatagrams(NetDialer):
    """As tunnels are."""

    async def udp(self, host: str, port: int) -> Datagrams:
        raise UnsupportedError(host, stage=str(port))


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    async with AsyncExitStack() as stack:

        async def start(server: NameServer) -> str:
            return await stack.enter_async_context(serving(server))

        yield start


def request(*resolvers: str, dialer: NetDialer | None = None) -> Fetch:
    query = "&".join(f"resolver={resolver}" for resolver in resolvers)
    account = Memory(1 << 20).account("test")
    return Fetch(f"dns:{ZONE}?{query}", dialer or NetDialer(TlsClient()), account)


async def first(
    fetch: Fetch, wanted: Iterable[bytes] = (BUNDLE,), timings: DnsTimings = TIMINGS
) -> bytes:
    """The first candidate that is good, as the caller's signature check would find it."""
    async with aclosing(DnsChannel(timings).fetch(fetch)) as candidates:
        async for candidate in candidates:
            if candidate in wanted:
                return candidate
    return b""


async def failure(fetch: Fetch, timings: DnsTimings = TIMINGS) -> ChannelError:
    with pytest.raises(ChannelError) as caught:
        await first(fetch, timings=timings)
    return caught.value


@pytest.mark.parametrize("way", ["udp", "tcp"])
async def test_a_bundle_comes_out_of_the_zone(serve: Serve, way: str) -> None:
    address = await serve(NameServer(TRUTH))
    assert await first(request(f"{way}://{address}")) == BUNDLE


async def test_through_tunnels_the_question_goes_over_tcp(serve: Serve) -> None:
    address = await serve(NameServer(TRUTH))
    dialer = WithoutDatagrams(TlsClient())
    assert await first(request(f"udp://{address}", dialer=dialer)) == BUNDLE


async def test_what_does_not_fit_a_datagram_is_asked_for_over_tcp(serve: Serve) -> None:
    large = random.Random(3).randbytes(60_000)
    address = await serve(NameServer(zone_records(ZONE, large)))
    assert await first(request(f"udp://{address}"), [large]) == large


def forged_manifest(query: bytes) -> list[bytes]:
    return [answer(query, LIES)]


def garbage_chunk(query: bytes) -> list[bytes]:
    everything = dict.fromkeys(TRUTH, b"Zm9yZ2Vk")
    return [answer(query, everything)]


LIARS: dict[str, Callable[[bytes], Iterable[bytes]]] = {
    "an address": lambda query: [address_answer(query)] * 3,
    "no such name": lambda query: [answer(query, {})],
    "another bundle": forged_manifest,
    "garbage": garbage_chunk,
    "cut": lambda query: [truncated(query)],
    "no DNS at all": lambda query: [b"", query[:2], query[:2] + b"\xff" * 40],
    "an answer to something else": lambda query: [bytes(2) + answer(query, LIES)[2:]],
}


@pytest.mark.parametrize("lie", LIARS)
async def test_a_forged_answer_that_is_faster_does_no_harm(serve: Serve, lie: str) -> None:
    address = await serve(NameServer(TRUTH, forge=LIARS[lie]))
    assert await first(request(f"udp://{address}")) == BUNDLE


async def test_a_flood_of_forged_answers_is_not_read_to_its_end(serve: Serve) -> None:
    flooded = NameServer(TRUTH, forge=lambda query: [address_answer(query)] * 400, delay=0.08)
    clean = NameServer(TRUTH)
    fetch = request(f"udp://{await serve(flooded)}", f"udp://{await serve(clean)}")
    started = time.monotonic()
    assert await first(fetch) == BUNDLE
    assert time.monotonic() - started < PATIENCE, "a deadline ended it"


@pytest.mark.parametrize("lie", ["an address", "garbage"])
async def test_when_only_forged_answers_come_the_error_says_so(serve: Serve, lie: str) -> None:
    address = await serve(NameServer({}, forge=LIARS[lie], is_cut_off=True))
    error = await failure(request(f"udp://{address}"), FEW_ANSWERS)
    assert error.verdict in {Verdict.FORGED, Verdict.BROKEN}
    assert f"DNS answers for {ZONE}" in str(error)


async def test_a_forged_zone_is_told_from_an_empty_one(serve: Serve) -> None:
    forger = await serve(NameServer({}, forge=LIARS["an address"]))
    addresses = forger, await serve(NameServer({}))
    forged, empty = await asyncio.gather(
        *(failure(request(f"udp://{address}"), FEW_ANSWERS) for address in addresses)
    )
    assert (forged.verdict, empty.verdict) == (Verdict.FORGED, Verdict.NOT_FOUND)


async def test_chunks_of_several_resolvers_are_mixed(serve: Serve) -> None:
    """Each lacks what the other has, as caches and censors leave them."""
    chunks = [name for name in TRUTH if not name.startswith(MANIFEST)]
    halves = [
        {name: text for name, text in TRUTH.items() if name not in chunks[start::2]}
        for start in (0, 1)
    ]
    addresses = [await serve(NameServer(half)) for half in halves]
    assert await first(request(*(f"tcp://{address}" for address in addresses))) == BUNDLE


async def test_the_majority_is_believed_first(serve: Serve) -> None:
    honest = [f"tcp://{await serve(NameServer(TRUTH))}" for _ in range(2)]
    liar = f"tcp://{await serve(NameServer(LIES))}"
    async with aclosing(DnsChannel(TIMINGS).fetch(request(liar, *honest))) as candidates:
        assert await anext(candidates) == BUNDLE


async def test_a_minority_is_believed_when_the_majority_is_forged(serve: Serve) -> None:
    liars = [f"tcp://{await serve(NameServer(LIES))}" for _ in range(2)]
    honest = f"tcp://{await serve(NameServer(TRUTH))}"
    assert await first(request(honest, *liars)) == BUNDLE


async def test_what_is_known_is_not_fetched_again(serve: Serve) -> None:
    server = NameServer(TRUTH)
    fetch = request(f"tcp://{await serve(server)}")
    assert await first(fetch) == BUNDLE
    server.asked.clear()
    assert (await failure(fetch)).verdict is Verdict.UNCHANGED
    assert server.asked == [f"{MANIFEST}.{ZONE}"]


async def test_what_was_refused_is_fetched_again(serve: Serve) -> None:
    fetch = request(f"tcp://{await serve(NameServer(TRUTH))}")
    assert await first(fetch, ()) == b""
    assert await first(fetch) == BUNDLE


async def test_silence_and_absence_are_told_apart(serve: Serve) -> None:
    address = await serve(NameServer(TRUTH, is_cut_off=True))
    silent = await failure(request(f"udp://{address}"), NO_ANSWER)
    dead = await failure(request("tcp://127.0.0.1:1"), NO_ANSWER)
    assert (silent.verdict, dead.verdict) == (Verdict.TOO_SLOW, Verdict.UNREACHABLE)


async def test_the_name_server_of_this_machine_is_asked(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = NameServer(TRUTH)
    await serve(server)
    file = tmp_path / "resolv.conf"
    file.write_text("# ours\nsearch test\nnameserver\nnameserver x\nnameserver 127.0.0.1\n")
    monkeypatch.setattr(source, "SYSTEM_FILE", file)
    monkeypatch.setattr(source, "SYSTEM_PORT", server.port)
    assert await first(request("system")) == BUNDLE
    tunnels = request("system", dialer=WithoutDatagrams(TlsClient()))
    assert (await failure(tunnels)).verdict is Verdict.UNREACHABLE


def test_a_source_without_resolvers_asks_well_known_ones() -> None:
    resolvers = parse_source(f"dns:{ZONE}").resolvers
    assert {resolver.way for resolver in resolvers} == set(DnsTransport)


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("dns:", "host"),
        ("dns:192.0.2.1", "zone"),
        (f"dns:{ZONE}?server=udp://192.0.2.1", "resolver=URL"),
        (f"dns:{ZONE}?resolver=udp://name.test", "IP address"),
        (f"dns:{ZONE}?resolver=udp://192.0.2.1:0", "port"),
        (f"dns:{ZONE}?resolver=udp://192.0.2.1:x", "udp://"),
        (f"dns:{ZONE}?resolver=quic://192.0.2.1", "udp://"),
        (f"dns:{ZONE}?resolver=tls://192.0.2.1/path", "path"),
        (f"dns:{ZONE}?resolver=udp://192.0.2.1%23name", "TLS"),
        (
            f"dns:{ZONE}?" + "&".join(f"resolver=tls://192.0.2.{n}" for n in range(MAX_SECURE + 1)),
            "more than",
        ),
    ],
)
def test_a_source_that_cannot_be_used_says_why(url: str, part: str) -> None:
    with pytest.raises(LinkError, match=part):
        DnsChannel().check(url)


@given(st.binary(max_size=600))
def test_no_message_does_harm(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - several texts
        read_answer(data)


@given(st.integers(0, 1200), st.integers(0, 255))
def test_no_altered_answer_does_harm(at: int, value: int) -> None:
    said = bytearray(answer(make_question(next(iter(TRUTH))).wire, TRUTH))
    said[at % len(said)] = value
    with suppress(ValueError):
        assert read_answer(bytes(said)).kind in AnswerKind
