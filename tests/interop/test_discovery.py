"""Every discovery channel against the servers that an operator would run: BIND and nginx."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from circumvent.api import Fetch, Verdict
from circumvent.discovery.hunt import DiscoverySource, Find, fetch
from circumvent.errors import ChannelError
from circumvent.layers.tls.client import TlsClient
from circumvent.memory import Memory
from circumvent.net.dialer import NetDialer
from circumvent.plugins import load_plugins
from circumvent.wire import dsse
from circumvent.wire.bundle import Bundle, Trust, format_bundle, make_envelope, open_bundle
from circumvent.wire.dns_chunks import zone_file
from tests.peers.bind import DOH, Bind, bind
from tests.peers.censors import black_hole, freezing, listening, reset_after_hello
from tests.peers.certificates import SERVER_NAME, Certificate, make_certificate
from tests.peers.names import NameServer, OnPath, address_answer, answer, serving, zone_records
from tests.peers.nginx import FILES, nginx

HOST = "127.0.0.1"
ZONE = "list.far.test"
HIDDEN = "hidden.far.test"
NOW = 1_800_000_000
BUDGET = 16 << 20
# Random names do not compress: the bundle is larger than what one frozen connection lets pass.
LINKS = tuple(
    f"trojan://{random.Random(number).randbytes(120).hex()}@server{number}.far.test:443"
    for number in range(200)
)
MISDIRECTED = """
        location / { return 421; }
"""


@dataclass(frozen=True, slots=True)
class Authority:
    """Somebody who signs, and the bundle that was signed."""

    trust: Trust
    signed: bytes

    def examine(self, data: bytes) -> Bundle:
        return open_bundle(data, self.trust, None, NOW)


@dataclass(frozen=True, slots=True)
class Sites:
    """The ports of nginx and BIND."""

    web: int
    bind: Bind


def sign(links: Iterable[str] = LINKS) -> Authority:
    key = Ed25519PrivateKey.generate()
    bundle = Bundle(7, NOW - 60, NOW + 3600, tuple(links))
    envelope = dsse.sign(make_envelope(bundle), key.private_bytes_raw())
    return Authority(Trust((key.public_key().public_bytes_raw(),)), format_bundle(envelope))


@pytest.fixture(scope="module")
def authority() -> Authority:
    return sign()


@pytest.fixture(scope="module")
def sites(
    tmp_path_factory: pytest.TempPathFactory, certificate: Certificate, authority: Authority
) -> Iterator[Sites]:
    folder = tmp_path_factory.mktemp("discovery")
    files = folder / "files"
    files.mkdir()
    (files / "bundle").write_bytes(authority.signed)
    zone = zone_file(ZONE, authority.signed, serial=1, ttl=60, name_server="ns.far.test")
    with bind(folder, certificate, ZONE, zone) as names:
        web = {
            SERVER_NAME: DOH.format(port=names.http) + MISDIRECTED,
            HOST: FILES.format(root=files),
            HIDDEN: FILES.format(root=files),
        }
        with nginx(folder, certificate, web) as port:
            yield Sites(port, names)


@pytest.fixture
def dialer(certificate: Certificate) -> NetDialer:
    return NetDialer(TlsClient(str(certificate.authority)))


async def ask(
    url: str, dialer: NetDialer, authority: Authority, notes: dict[str, str] | None = None
) -> Find:
    """One fetch, as the hunt does it."""
    channel = load_plugins().channels[url.partition(":")[0]]
    channel.check(url)
    account = Memory(BUDGET).account("discovery")
    request = Fetch(url, dialer, account, {} if notes is None else notes)
    return await fetch(DiscoverySource(url, channel), request, authority.examine)


def verdict(find: Find) -> Verdict:
    assert isinstance(find.error, ChannelError)
    return find.error.verdict


def sources(sites: Sites) -> Mapping[str, str]:
    names = sites.bind
    return {
        "dns over udp": f"dns:{ZONE}?resolver=udp://{HOST}:{names.port}",
        "dns over tcp": f"dns:{ZONE}?resolver=tcp://{HOST}:{names.port}",
        "dns over tls": f"dns:{ZONE}?resolver=tls://{HOST}:{names.tls}%23{SERVER_NAME}",
        "dns over https": f"dns:{ZONE}?resolver=https://{HOST}:{sites.web}%23{SERVER_NAME}",
        "https": f"https://{HOST}:{sites.web}/bundle",
        "fronted": f"fronted+https://{HOST}:{sites.web}/bundle?host={HIDDEN}",
        "fronted without a name": (
            f"fronted+https://{HOST}:{sites.web}/bundle?host={HIDDEN}&sni=none"
        ),
    }


NAMES = tuple(sources(Sites(1, Bind(1, 1, 1))))


@pytest.mark.parametrize("name", NAMES)
async def test_each_channel_brings_the_bundle(
    name: str, sites: Sites, dialer: NetDialer, authority: Authority
) -> None:
    find = await ask(sources(sites)[name], dialer, authority)

    assert find.error is None
    assert find.bundle is not None
    assert find.bundle.entries == LINKS
    print(f"{name:>24}: {find.ms:6.0f} ms, {len(authority.signed)} bytes")


@pytest.mark.parametrize("name", NAMES)
async def test_what_is_known_is_not_sent_again(
    name: str, sites: Sites, dialer: NetDialer, authority: Authority
) -> None:
    notes: dict[str, str] = {}
    await ask(sources(sites)[name], dialer, authority, notes)
    assert verdict(await ask(sources(sites)[name], dialer, authority, notes)) is Verdict.UNCHANGED


async def test_all_ways_at_once(sites: Sites, dialer: NetDialer, authority: Authority) -> None:
    urls = [url for name, url in sources(sites).items() if name.startswith("dns")]
    query = "&".join(url.partition("?")[2] for url in urls)
    find = await ask(f"dns:{ZONE}?{query}", dialer, authority)
    assert find.bundle is not None


async def test_nothing_goes_in_clear_while_tls_works(
    sites: Sites, dialer: NetDialer, authority: Authority
) -> None:
    plain = NameServer(zone_records(ZONE, authority.signed))
    async with serving(plain) as address:
        secure = sources(sites)["dns over tls"]
        find = await ask(f"{secure}&resolver=udp://{address}", dialer, authority)
    assert find.bundle is not None
    assert plain.asked == []


OTHER: Mapping[str, bytes] = zone_records(ZONE, sign(LINKS[:9]).signed)
FORGERIES = {
    "an address": lambda query: [address_answer(query)] * 2,
    "no such name": lambda query: [answer(query, {})],
    "a list by somebody else": lambda query: [answer(query, OTHER)],
}


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_forged_answers_that_outrun_the_name_server_do_no_harm(
    forgery: str, sites: Sites, dialer: NetDialer, authority: Authority
) -> None:
    liar = OnPath({}, forge=FORGERIES[forgery], behind=sites.bind.port)
    async with serving(liar) as address:
        find = await ask(f"dns:{ZONE}?resolver=udp://{address}", dialer, authority)
    assert find.error is None
    assert find.bundle is not None


async def test_a_path_that_only_forges_is_named(dialer: NetDialer, authority: Authority) -> None:
    liar = NameServer({}, forge=lambda query: [address_answer(query)], is_cut_off=True)
    async with serving(liar) as address:
        find = await ask(f"dns:{ZONE}?resolver=udp://{address}", dialer, authority)
    assert verdict(find) is Verdict.FORGED
    assert str(find.error) == f"DNS answers for {ZONE} were forged by the network"
    assert find.ms < 5000


async def test_one_honest_resolver_among_liars_is_enough(
    sites: Sites, dialer: NetDialer, authority: Authority
) -> None:
    async with AsyncExitStack() as stack:
        liars = [await stack.enter_async_context(serving(NameServer(OTHER))) for _ in range(3)]
        query = "&".join(f"resolver=udp://{address}" for address in liars)
        find = await ask(f"{sources(sites)['dns over udp']}&{query}", dialer, authority)
    assert find.bundle is not None


@pytest.mark.parametrize("name", ["https", "fronted"])
async def test_connections_that_freeze_are_left_and_the_download_goes_on(
    name: str, sites: Sites, dialer: NetDialer, authority: Authority
) -> None:
    """Of each connection only the first 16 KiB pass, as seen towards foreign data centres."""
    async with listening(freezing(sites.web, 16 * 1024)) as port:
        url = sources(sites)[name].replace(str(sites.web), str(port))
        find = await ask(url, dialer, authority)
    assert len(authority.signed) > 2 * 16 * 1024
    assert find.error is None
    assert find.bundle is not None


async def test_a_front_that_refuses_is_told_from_a_censor(
    sites: Sites, dialer: NetDialer, authority: Authority
) -> None:
    path = "/bundle?host=unknown.far.test"
    found = await ask(f"fronted+https://{HOST}:{sites.web}{path}", dialer, authority)
    async with listening(reset_after_hello) as port:
        cut = await ask(f"fronted+https://{HOST}:{port}{path}", dialer, authority)
    assert (verdict(found), verdict(cut)) == (Verdict.REFUSED, Verdict.BLOCKED)
    assert "421" in str(found.error)


async def test_a_front_with_a_certificate_of_somebody_else_is_not_used(
    sites: Sites, authority: Authority, tmp_path: Path
) -> None:
    stranger = NetDialer(TlsClient(str(make_certificate(tmp_path).authority)))
    find = await ask(sources(sites)["fronted"], stranger, authority)
    assert verdict(find) is Verdict.BLOCKED
    assert "certificate" in str(find.error)


@pytest.mark.parametrize("name", ["dns over tls", "dns over https", "https", "fronted"])
async def test_whoever_says_nothing_is_given_up(
    name: str, sites: Sites, dialer: NetDialer, authority: Authority
) -> None:
    async with listening(black_hole) as port:
        url = sources(sites)[name]
        for honest in (sites.web, sites.bind.tls):
            url = url.replace(f":{honest}", f":{port}")
        started = time.monotonic()
        find = await ask(url, dialer, authority)
    assert verdict(find) is Verdict.TOO_SLOW
    assert time.monotonic() - started < 21
