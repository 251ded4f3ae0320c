"""Names are asked for once, kept for their TTL, and no forged answer counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from circumvent.errors import ConfigError, DestinationError, Reason
from circumvent.relay.egress import nameservers
from circumvent.relay.egress.nameservers import parse_nameservers
from circumvent.relay.egress.resolver import USER_SHARE, NameResolver, ResolverLimits
from circumvent.wire.address import Destination

ANNA, BEN = "anna", "ben"
Reply = Callable[[dns.message.QueryMessage], Sequence[dns.message.Message]]


class Nameserver(asyncio.DatagramProtocol):
    """Answers with what ``reply`` makes; ``asked`` grows with each question."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.asked: list[tuple[str, str]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        assert isinstance(query, dns.message.QueryMessage)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True)
        self.asked.append((name, question.rdtype.name))
        for answer in self.reply(query):
            self.transport.sendto(answer.to_wire(), addr)

    @property
    def place(self) -> Destination:
        return Destination(*self.transport.get_extra_info("sockname"))


@asynccontextmanager
async def nameserver(reply: Reply) -> AsyncIterator[Nameserver]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(
        lambda: Nameserver(reply), local_addr=("127.0.0.1", 0)
    )
    try:
        yield server
    finally:
        transport.close()
        await asyncio.sleep(0)


def answer(query: dns.message.QueryMessage, *addresses: str, ttl: int = 60) -> dns.message.Message:
    """The addresses of the kind that was asked for."""
    response = dns.message.make_response(query)
    question = query.question[0]
    fitting = [each for each in addresses if (":" in each) == (question.rdtype.name == "AAAA")]
    if fitting:
        rrset = dns.rrset.from_text(question.name, ttl, "IN", question.rdtype.name, *fitting)
        response.answer.append(rrset)
    return response


def refused(query: dns.message.QueryMessage, code: dns.rcode.Rcode) -> dns.message.Message:
    response = dns.message.make_response(query)
    response.set_rcode(code)
    return response


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_both_families_are_asked_for_at_once_and_kept_for_their_ttl() -> None:
    clock = Clock()
    async with nameserver(lambda q: [answer(q, "192.0.2.1", "2001:db8::1", ttl=60)]) as server:
        names = NameResolver([server.place], clock)
        assert await names.resolve("Name.Test.", ANNA) == ("192.0.2.1", "2001:db8::1")
        assert await names.resolve("name.test", ANNA) == ("192.0.2.1", "2001:db8::1")
        assert sorted(server.asked) == [("name.test", "A"), ("name.test", "AAAA")]
        clock.now += 61
        await names.resolve("name.test", ANNA)
        assert len(server.asked) == 4


@pytest.mark.parametrize(("ttl", "kept"), [(0, 10), (86400, 600)])
async def test_ttls_are_bounded(ttl: int, kept: int) -> None:
    clock = Clock()
    async with nameserver(lambda q: [answer(q, "192.0.2.1", ttl=ttl)]) as server:
        names = NameResolver([server.place], clock)
        await names.resolve("name.test", ANNA)
        clock.now += kept - 1
        await names.resolve("name.test", ANNA)
        assert len(server.asked) == 2
        clock.now += 2
        await names.resolve("name.test", ANNA)
        assert len(server.asked) == 4


async def test_the_number_of_kept_names_is_bounded() -> None:
    async with nameserver(lambda q: [answer(q, "192.0.2.1")]) as server:
        names = NameResolver([server.place], limits=ResolverLimits(names=2))
        for name in ("a.test", "b.test", "c.test", "c.test", "a.test"):
            await names.resolve(name, ANNA)
        assert [name for name, kind in server.asked if kind == "A"] == [
            "a.test",
            "b.test",
            "c.test",
            "a.test",
        ]


async def test_queries_for_the_same_name_are_shared() -> None:
    async with nameserver(lambda q: [answer(q, "192.0.2.1")]) as server:
        names = NameResolver([server.place])
        impatient = asyncio.ensure_future(names.resolve("name.test", ANNA))
        patient = [names.resolve("name.test", ANNA) for _ in range(5)]
        await asyncio.sleep(0)
        impatient.cancel()
        assert await asyncio.gather(*patient) == [("192.0.2.1",)] * 5
        assert len(server.asked) == 2


async def test_users_share_no_answers() -> None:
    """Else a user could tell by the time what another one visits."""
    async with nameserver(lambda q: [answer(q, "192.0.2.1")]) as server:
        names = NameResolver([server.place])
        for user in (ANNA, BEN, ANNA, BEN):
            await names.resolve("name.test", user)
        assert len(server.asked) == 4
        server.reply = lambda q: [refused(q, dns.rcode.NXDOMAIN)]
        with pytest.raises(DestinationError):
            await names.resolve("nothing.test", ANNA)
        server.reply = lambda q: [answer(q, "192.0.2.1")]
        assert await names.resolve("nothing.test", BEN) == ("192.0.2.1",)


async def test_a_query_ends_when_nobody_waits_for_it() -> None:
    async with nameserver(lambda _: []) as silent:
        before = asyncio.all_tasks()
        names = NameResolver([silent.place])
        waiting = [asyncio.ensure_future(names.resolve("name.test", ANNA)) for _ in range(3)]
        while len(silent.asked) < 2:  # noqa: ASYNC110 - the nameserver has no event
            await asyncio.sleep(0.001)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        await asyncio.sleep(0.01)
        assert asyncio.all_tasks() == before
        silent.reply = lambda q: [answer(q, "192.0.2.1")]
        assert await names.resolve("name.test", ANNA) == ("192.0.2.1",)


async def test_one_users_silent_names_delay_no_other_user() -> None:
    limits = ResolverLimits(queries=8, turn_seconds=0.1)

    def reply(query: dns.message.QueryMessage) -> list[dns.message.Message]:
        name = query.question[0].name.to_text()
        return [] if name.startswith("silent") else [answer(query, "192.0.2.1")]

    async with nameserver(reply) as server:
        names = NameResolver([server.place], limits=limits)
        silent = [
            asyncio.ensure_future(names.resolve(f"silent{number}.test", ANNA))
            for number in range(32)
        ]
        await asyncio.sleep(0.01)
        assert await names.resolve("name.test", BEN) == ("192.0.2.1",)
        assert len({name for name, _ in server.asked}) == 8 // USER_SHARE + 1
        with pytest.raises(DestinationError) as caught:
            await names.resolve("name.test", ANNA)
        assert caught.value.reason is Reason.TIMED_OUT
        for task in silent:
            task.cancel()
        await asyncio.gather(*silent, return_exceptions=True)


async def test_forged_answers_are_ignored() -> None:
    def reply(query: dns.message.QueryMessage) -> list[dns.message.Message]:
        forged = answer(query, "198.51.100.66", "2001:db8::66")
        forged.id = query.id ^ 1
        other = dns.message.make_query("other.test", "A", id=query.id)
        return [forged, answer(other, "198.51.100.66"), answer(query, "192.0.2.1")]

    async with nameserver(reply) as server:
        assert await NameResolver([server.place]).resolve("name.test", ANNA) == ("192.0.2.1",)


async def test_a_chain_of_names_is_followed() -> None:
    def reply(query: dns.message.QueryMessage) -> list[dns.message.Message]:
        response = answer(query)
        name = query.question[0].name
        if query.question[0].rdtype.name == "A":
            response.answer.append(dns.rrset.from_text(name, 60, "IN", "CNAME", "real.test."))
            response.answer.append(dns.rrset.from_text("real.test.", 60, "IN", "A", "192.0.2.7"))
        return [response]

    async with nameserver(reply) as server:
        assert await NameResolver([server.place]).resolve("alias.test", ANNA) == ("192.0.2.7",)


async def test_a_missing_name_is_not_asked_for_again() -> None:
    async with nameserver(lambda q: [refused(q, dns.rcode.NXDOMAIN)]) as server:
        names = NameResolver([server.place])
        for _ in range(3):
            with pytest.raises(DestinationError) as caught:
                await names.resolve("nothing.test", ANNA)
            assert caught.value.reason is Reason.HOST_UNREACHABLE
        assert len(server.asked) == 2


async def test_the_next_nameserver_is_asked_when_one_is_silent_or_refuses() -> None:
    limits = ResolverLimits(tries=(0.02, 20, 20))
    async with (
        nameserver(lambda _: []) as silent,
        nameserver(lambda q: [refused(q, dns.rcode.SERVFAIL)]) as broken,
        nameserver(lambda q: [answer(q, "192.0.2.1")]) as good,
    ):
        names = NameResolver([silent.place, broken.place, good.place], limits=limits)
        assert await names.resolve("name.test", ANNA) == ("192.0.2.1",)


async def test_a_name_times_out_when_no_nameserver_answers() -> None:
    limits = ResolverLimits(tries=(0.01, 0.01))
    async with nameserver(lambda _: []) as silent:
        with pytest.raises(DestinationError) as caught:
            await NameResolver([silent.place], limits=limits).resolve("name.test", ANNA)
        assert caught.value.reason is Reason.TIMED_OUT
        assert sorted(kind for _, kind in silent.asked) == ["A", "A", "AAAA", "AAAA"]


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST.", "a.localhost"])
async def test_localhost_is_never_asked_for(name: str) -> None:
    assert await NameResolver([]).resolve(name, ANNA) == ("127.0.0.1", "::1")


@pytest.mark.parametrize("name", ["", "a..b", "x" * 64 + ".test", "\u2024"])
async def test_an_invalid_name_is_never_asked_for(name: str) -> None:
    async with nameserver(lambda q: [answer(q, "192.0.2.1")]) as server:
        with pytest.raises(DestinationError):
            await NameResolver([server.place]).resolve(name, ANNA)
    assert server.asked == []


def test_nameservers_are_addresses() -> None:
    assert parse_nameservers(["192.0.2.1", "[2001:db8::1]:5353", "2001:db8::2"]) == (
        Destination("192.0.2.1", 53),
        Destination("2001:db8::1", 5353),
        Destination("2001:db8::2", 53),
    )
    with pytest.raises(ConfigError, match=r"egress\.nameservers"):
        parse_nameservers(["dns.example"])


def test_the_systems_nameservers(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_bytes(b"# Bl\xfccher's\nnameserver 192.0.2.1\nsearch x\nnameserver 2001:db8::1\n")
    system_nameservers = nameservers._system_nameservers  # noqa: SLF001
    assert [each.host for each in system_nameservers(file)] == ["192.0.2.1", "2001:db8::1"]
    assert [each.host for each in system_nameservers(tmp_path / "none")] == ["127.0.0.1"]
