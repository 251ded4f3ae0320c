"""curl through the inbound: its reading of the protocols is not ours."""

import asyncio
import hashlib

import pytest

from circumvent.inbound.options import InboundOptions
from tests.unit.http_site import BIG, site
from tests.unit.inbound_client import (
    CREDENTIALS,
    SITE,
    destination,
    running_inbound,
)


async def curl(*arguments: str, body: bytes | None = None) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *("curl", "--silent", "--show-error", "--fail", "--max-time", "10", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={},
    )
    output, _ = await process.communicate(body)
    assert process.returncode == 0
    return output


@pytest.mark.parametrize(
    "way",
    [
        ("--socks5-hostname", "me:s:cret@127.0.0.1:{}"),
        ("--proxy-user", "me:s:cret", "--proxy", "http://127.0.0.1:{}"),
        ("--proxy-user", "me:s:cret", "--proxytunnel", "--proxy", "http://127.0.0.1:{}"),
    ],
)
async def test_curl_with_a_password(way: tuple[str, ...]) -> None:
    options = InboundOptions(port=0, credentials=CREDENTIALS)
    async with destination(site) as port, running_inbound(options) as inbound:
        arguments = [word.format(inbound.port) for word in way]
        got = await curl(*arguments, f"http://{SITE}:{port}/big")
        assert got == b"x" * BIG


@pytest.mark.parametrize(
    "way",
    [
        ("--socks5-hostname", "127.0.0.1:{}"),
        ("--socks4a", "127.0.0.1:{}"),
        ("--proxy", "http://127.0.0.1:{}"),
        ("--proxy1.0", "127.0.0.1:{}"),
        ("--proxytunnel", "--proxy", "http://127.0.0.1:{}"),
    ],
)
async def test_curl_without(way: tuple[str, ...]) -> None:
    async with destination(site) as port, running_inbound() as inbound:
        arguments = [word.format(inbound.port) for word in way]
        upload = ["--data-binary", "@-", "-H", "Transfer-Encoding: chunked"]
        digest = await curl(*arguments, *upload, f"http://{SITE}:{port}/sum", body=b"x" * BIG)
        assert digest.decode() == hashlib.sha256(b"x" * BIG).hexdigest()
        assert [asked.host for asked in inbound.outbound.asked] == [SITE]
