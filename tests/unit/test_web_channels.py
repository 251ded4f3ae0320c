"""Mirrors, fronts and subscriptions against a real web server that behaves in many ways."""

import asyncio
import hashlib
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from aiohttp import web
from msgspec.structs import replace

from circumvent.api import Channel, ChannelError, Fetch, LinkError, Verdict
from circumvent.errors import CircumventError
from circumvent.layers.tls.client import TlsClient
from circumvent.memory import Memory
from circumvent.net.dialer import NetDialer
from circumvent.wire.bundle import MAX_BUNDLE
from circumvent_plugins.web_channels import FrontedChannel, HttpsChannel, SubscriptionChannel
from circumvent_plugins.web_channels import download as web_download
from circumvent_plugins.web_channels.download import DownloadTimings
from tests.peers.certificates import Certificate, make_certificate
from tests.peers.process import free_port

HOST = "127.0.0.1"
BODY = random.Random(1).randbytes(40_000)
TAG = '"' + hashlib.sha256(BODY).hexdigest()[:16] + '"'
HIDDEN = "hidden.test"
TIMINGS = DownloadTimings(retry_after=0.02)


class Site:
    """What stands at each path; ``asked`` are the requests."""

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[web.Request] = []
        self.cuts = 0

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/{tail:.*}", self.answer)
        return app

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        handler = getattr(self, request.path.strip("/").replace("-", "_"))
        response = await handler(request)
        assert isinstance(response, web.StreamResponse)
        return response

    async def good(self, request: web.Request) -> web.Response:
        if request.headers.get("If-None-Match") == TAG:
            return web.Response(status=304)
        return web.Response(body=BODY, headers={"ETag": TAG})

    async def cut(self, request: web.Request) -> web.StreamResponse:
        """Cuts after a third, ``cuts`` times; goes on where it is told."""
        start = 0
        if wanted := request.headers.get("Range"):
            assert request.headers["If-Range"] == TAG
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        rest = BODY[start:]
        headers = {"ETag": TAG, "Content-Length": str(len(rest))}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"
        response = web.StreamResponse(status=206 if start else 200, headers=headers)
        await response.prepare(request)
        if self.cuts:
            self.cuts -= 1
            await response.write(rest[: len(BODY) // 3])
            await asyncio.sleep(0.02)
            assert request.transport is not None
            request.transport.abort()
        else:
            await response.write(rest)
        return response

    async def forgetful(self, request: web.Request) -> web.StreamResponse:
        """Cuts after a third, ``cuts`` times; always begins anew."""
        response = web.StreamResponse(headers={"Content-Length": str(len(BODY))})
        await response.prepare(request)
        await response.write(BODY[: len(BODY) // 3] if self.cuts else BODY)
        if self.cuts:
            self.cuts -= 1
            await asyncio.sleep(0.05)
            assert request.transport is not None
            request.transport.abort()
        return response

    async def stale_once(self, request: web.Request) -> web.Response:
        is_first = sum(request.path == each.path for each in self.asked) == 1
        return web.Response(status=304) if is_first else web.Response(body=BODY)

    async def hidden(self, request: web.Request) -> web.Response:
        if request.host != HIDDEN:
            return web.Response(status=403, text="<html>no", headers={"Server": "cloudflare"})
        return web.Response(body=BODY)

    async def portal(self, _: web.Request) -> web.Response:
        return web.Response(text="\n <!DOCTYPE html><html>Log in", content_type="text/html")

    async def login(self, _: web.Request) -> web.Response:
        return web.Response(status=511)

    async def plain(self, _: web.Request) -> web.Response:
        raise web.HTTPFound("http://login.test/")

    async def loop(self, request: web.Request) -> web.Response:
        raise web.HTTPFound(request.path)

    async def moved(self, _: web.Request) -> web.Response:
        raise web.HTTPMovedPermanently("/good")

    async def missing(self, _: web.Request) -> web.Response:
        return web.Response(status=404)

    async def flood(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(1 << 14):  # a gigabyte, if somebody took it
            await response.write(bytes(1 << 16))
        return response

    async def drip(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        for _ in range(1000):
            await response.write(b"x")
            await asyncio.sleep(0.02)
        return response

    async def silence(self, _: web.Request) -> web.Response:
        await asyncio.sleep(10)
        return web.Response()

    async def links(self, _: web.Request) -> web.Response:
        return web.Response(text="trojan://a@b.test:443")


@pytest.fixture
async def site(certificate: Certificate) -> AsyncIterator[Site]:
    site = Site()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.chain, certificate.key)
    runner = web.AppRunner(site.app(), shutdown_timeout=0.02)
    await runner.setup()
    site.port = free_port()
    await web.TCPSite(runner, HOST, site.port, ssl_context=context).start()
    yield site
    await runner.cleanup()


class Client:
    """Fetches once; keeps the notes."""

    def __init__(self, certificate: Certificate) -> None:
        self.dialer = NetDialer(TlsClient(str(certificate.authority)))
        self.account = Memory(1 << 21).account("test")
        self.notes: dict[str, str] = {}

    async def fetch(self, channel: Channel, source: str) -> bytes:
        """The first candidate, which is taken: the rest is not asked for."""
        channel.check(source)
        request = Fetch(source, self.dialer, self.account, self.notes)
        async with aclosing(channel.fetch(request)) as candidates:
            return await anext(candidates)

    async def verdict(self, channel: Channel, source: str) -> Verdict:
        with pytest.raises(ChannelError) as caught:
            await self.fetch(channel, source)
        return caught.value.verdict


@pytest.fixture
def client(certificate: Certificate) -> Client:
    return Client(certificate)


def at(site: Site, path: str) -> str:
    return f"https://{HOST}:{site.port}/{path}"


async def test_a_mirror_gives_the_file(site: Site, client: Client) -> None:
    assert await client.fetch(HttpsChannel(), at(site, "good")) == BODY


async def test_what_is_known_is_not_sent_again(site: Site, client: Client) -> None:
    await client.fetch(HttpsChannel(), at(site, "good"))
    assert await client.verdict(HttpsChannel(), at(site, "good")) is Verdict.UNCHANGED


async def test_what_was_refused_is_sent_again(site: Site, client: Client) -> None:
    request = Fetch(at(site, "good"), client.dialer, client.account, client.notes)
    assert [candidate async for candidate in HttpsChannel().fetch(request)] == [BODY]
    assert client.notes == {}


async def test_a_cut_download_goes_on_where_it_was_cut(site: Site, client: Client) -> None:
    site.cuts = 2
    assert await client.fetch(HttpsChannel(TIMINGS), at(site, "cut")) == BODY
    starts = [request.headers.get("Range") for request in site.asked]
    assert starts[0] is None
    assert starts[1:] == [f"bytes={len(BODY) // 3}-", f"bytes={2 * (len(BODY) // 3)}-"]


@pytest.mark.parametrize("path", ["cut", "forgetful"])
async def test_a_list_that_is_cut_goes_on_with_each_byte_once(
    site: Site, client: Client, path: str
) -> None:
    site.cuts = 1
    request = Fetch(f"sub+{at(site, path)}", client.dialer, client.account, {})
    async with aclosing(SubscriptionChannel(TIMINGS).fetch(request)) as pieces:
        assert b"".join([piece async for piece in pieces]) == BODY
    assert len(site.asked) == 2


async def test_a_host_that_always_cuts_is_given_up(
    site: Site, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_download, "PIECE", 1 << 20)  # few of them: few connections
    site.cuts = 99
    assert await client.verdict(HttpsChannel(TIMINGS), at(site, "cut")) is Verdict.BLOCKED
    assert len(site.asked) == 3


@pytest.mark.parametrize(
    ("path", "verdict"),
    [
        ("portal", Verdict.PORTAL),
        ("login", Verdict.PORTAL),
        ("plain", Verdict.PORTAL),
        ("loop", Verdict.REFUSED),
        ("missing", Verdict.NOT_FOUND),
        ("hidden", Verdict.REFUSED),
    ],
)
async def test_what_comes_instead_is_told_apart(
    site: Site, client: Client, path: str, verdict: Verdict
) -> None:
    assert await client.verdict(HttpsChannel(), at(site, path)) is verdict


async def test_an_endless_answer_is_cut_off_at_the_size_of_a_bundle(
    site: Site, client: Client
) -> None:
    assert await client.verdict(HttpsChannel(), at(site, "flood")) is Verdict.TOO_LARGE
    assert client.account.high_water < 4 * MAX_BUNDLE


async def test_a_dripping_answer_is_given_up(site: Site, client: Client) -> None:
    channel = HttpsChannel(replace(TIMINGS, whole=0.15))
    assert await client.verdict(channel, at(site, "drip")) is Verdict.TOO_SLOW


async def test_what_stalls_is_asked_for_once_more_in_a_piece(site: Site, client: Client) -> None:
    channel = HttpsChannel(replace(TIMINGS, stalls_after=0.05))
    assert await client.verdict(channel, at(site, "silence")) is Verdict.TOO_SLOW
    first, second = (request.headers.get("Range") for request in site.asked)
    assert (first, second) == (None, f"bytes=0-{web_download.PIECE - 1}")


async def test_a_mirror_may_have_moved(site: Site, client: Client) -> None:
    assert await client.fetch(HttpsChannel(), at(site, "moved")) == BODY


async def test_a_dead_mirror_is_unreachable(client: Client) -> None:
    source = f"https://{HOST}:{free_port()}/b"
    assert await client.verdict(HttpsChannel(), source) is Verdict.UNREACHABLE


async def test_a_certificate_of_another_host_means_interception(
    site: Site, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stranger = Client(make_certificate(tmp_path_factory.mktemp("stranger")))
    with pytest.raises(ChannelError, match="certificate is not valid") as caught:
        await stranger.fetch(HttpsChannel(), at(site, "good"))
    assert caught.value.verdict is Verdict.BLOCKED


async def test_behind_a_front_the_hidden_host_answers(site: Site, client: Client) -> None:
    source = f"fronted+{at(site, 'hidden')}?host={HIDDEN}"
    assert await client.fetch(FrontedChannel(), source + "&sni=none") == BODY
    assert site.asked[0].host == HIDDEN


async def test_a_dead_front_gives_way_to_the_next(site: Site, client: Client) -> None:
    dead = f"{HOST}:{free_port()}"
    source = f"fronted+https://{dead}/hidden?host={HIDDEN}&front={HOST}:{site.port}"
    assert await client.fetch(FrontedChannel(), source) == BODY


async def test_a_front_that_knows_nothing_newer_gives_way_to_the_next(
    site: Site, client: Client
) -> None:
    source = f"fronted+{at(site, 'stale-once')}?host={HIDDEN}&front={HOST}:{site.port}"
    assert await client.fetch(FrontedChannel(), source) == BODY


async def test_when_no_front_knows_anything_newer_that_is_said(site: Site, client: Client) -> None:
    await client.fetch(HttpsChannel(), at(site, "good"))
    source = f"fronted+{at(site, 'good')}?host={HIDDEN}&front={HOST}:{free_port()}"
    assert await client.verdict(FrontedChannel(), source) is Verdict.UNCHANGED


async def test_a_front_that_does_not_serve_the_host_says_so(site: Site, client: Client) -> None:
    source = f"fronted+{at(site, 'hidden')}?host=other.test"
    with pytest.raises(ChannelError, match=r"HTTP 403 from a server of cloudflare"):
        await client.fetch(FrontedChannel(), source)


async def test_a_subscription_is_fetched_as_it_is(site: Site, client: Client) -> None:
    source = "sub+" + at(site, "links")
    assert await client.fetch(SubscriptionChannel(), source) == b"trojan://a@b.test:443"


async def test_nothing_is_left_when_a_fetch_is_given_up(site: Site, client: Client) -> None:
    fetch = asyncio.ensure_future(client.fetch(HttpsChannel(), at(site, "flood")))
    await asyncio.sleep(0.05)
    fetch.cancel()
    with pytest.raises((asyncio.CancelledError, CircumventError)):
        await fetch
    assert client.account.leased == 0


@pytest.mark.parametrize(
    ("channel", "source", "part"),
    [
        (HttpsChannel(), "https:///b", "https://HOST/PATH"),
        (HttpsChannel(), "https://a.test:99999/b", "https://HOST/PATH"),
        (HttpsChannel(), "https://user@a.test/b", "a user name"),
        (FrontedChannel(), "fronted+https://a.test/b", "names no hidden host"),
        (FrontedChannel(), "fronted+https://a.test/b?host=x.test&host=y.test", "or two"),
        (FrontedChannel(), "fronted+https://a.test/b?host=x.test&colour=1", "host=, front="),
        (FrontedChannel(), "fronted+https://a.test/b?host=x.test&sni=b.test", "only be none"),
        (FrontedChannel(), "fronted+https://a.test/b?host=a b", "neither a host name"),
        (SubscriptionChannel(), "sub+https://", "https://HOST/PATH"),
    ],
)
def test_a_source_that_cannot_be_used_says_why(channel: Channel, source: str, part: str) -> None:
    with pytest.raises(LinkError, match=part):
        channel.check(source)
