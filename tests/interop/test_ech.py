"""Links with ``ech``, ``vcn`` and ``pcs`` against sing-box: what is encrypted, and who is trusted."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

from circumvent.api import ByteStream, HandshakeError
from circumvent.errors import EchRejectedError
from circumvent.layers.tls.client import TlsClient
from circumvent.memory import Memory
from circumvent.net.dialer import NetDialer
from circumvent.wire.address import Destination
from circumvent_plugins.vless import Vless
from tests.interop.echoing import assert_echoed
from tests.peers import sing_box
from tests.peers.certificates import SERVER_NAME, Certificate, make_certificate
from tests.peers.process import Process, free_port
from tests.peers.services import HOST, VLESS_TLS, Endpoint

PUBLIC_NAME = "harmless.test"
SIZE = 1 << 20
KEYS = re.compile(r"-----BEGIN ECH (?P<kind>CONFIGS|KEYS)-----\n(?P<text>[^-]*)-----END[^\n]*\n")


def make_keys() -> tuple[str, list[str]]:
    """A new ECHConfigList in base64, and the lines of its private key."""
    command = [sing_box.command()[0], "generate", "ech-keypair", PUBLIC_NAME]
    made = subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout
    found = {match["kind"]: match for match in KEYS.finditer(made)}
    configs = "".join(found["CONFIGS"]["text"].split())
    return configs, found["KEYS"][0].splitlines()


class Place:
    """A server, and a way to it on which somebody watches."""

    def __init__(self, endpoint: Endpoint, configs: str) -> None:
        self.endpoint, self.configs = endpoint, configs
        self.seen: list[bytes] = []  # what clients said first, one for each connection

    async def pass_on(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        far, out = await asyncio.open_connection(HOST, self.endpoint.port)
        first = await near.read(1 << 14)
        self.seen.append(first)
        out.write(first)
        await asyncio.gather(pump(near, out), pump(far, back))

    async def open(self, port: int, **query: str) -> ByteStream:
        account = Memory(8 << 20).account("test")
        words = {"security": "tls", "sni": SERVER_NAME, **query}
        link = f"vless://{self.endpoint.secret}@{HOST}:{self.port}?" + "&".join(
            f"{key}={quote(value, safe='')}" for key, value in words.items()
        )
        entry = Vless().parse(link)
        assert Vless().parse(entry.link) == entry  # as it is kept
        tunnel = await Vless().connect(entry, NetDialer(TlsClient()), account)
        return await tunnel.open(Destination(HOST, port))

    port: int


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
    with suppress(OSError):
        sink.close()


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    """The chain has its authority, as chains of a private one often do."""
    made = make_certificate(tmp_path)
    made.chain.write_bytes(made.chain.read_bytes() + made.authority.read_bytes())
    return made


@pytest.fixture
async def place(certificate: Certificate, tmp_path: Path) -> AsyncIterator[Place]:
    configs, key = make_keys()
    endpoint = Endpoint(VLESS_TLS, free_port(), VLESS_TLS.new_secret(), certificate)
    config = sing_box.server_config(endpoint)
    config["inbounds"][0]["tls"]["ech"] = {"enabled": True, "key": key}  # type: ignore[index]
    file = tmp_path / "sing-box.json"
    file.write_text(json.dumps(config))
    with Process([*sing_box.command(), str(file)], tmp_path / "sing-box.log") as process:
        process.await_port(endpoint.port)
        place = Place(endpoint, configs)
        watched = await asyncio.start_server(place.pass_on, HOST, 0)
        place.port = watched.sockets[0].getsockname()[1]
        async with watched:
            yield place


@pytest.fixture
async def echo_port() -> AsyncIterator[int]:
    server = await asyncio.start_server(pump, HOST, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_the_name_is_encrypted_for_a_server_with_the_key(
    place: Place, certificate: Certificate, echo_port: int
) -> None:
    stream = await place.open(echo_port, ech=place.configs, pinSHA256=certificate.sha256)
    await assert_echoed(stream, SIZE)
    await stream.aclose()
    (seen,) = place.seen
    assert PUBLIC_NAME.encode() in seen
    assert SERVER_NAME.encode() not in seen


async def test_an_old_key_is_renewed_once_by_the_server_itself(
    place: Place, certificate: Certificate, echo_port: int
) -> None:
    old, _ = make_keys()
    stream = await place.open(echo_port, ech=old, pinSHA256=certificate.sha256)
    await assert_echoed(stream, SIZE)
    await stream.aclose()
    assert len(place.seen) == 2
    assert not any(SERVER_NAME.encode() in seen for seen in place.seen)


async def test_a_new_key_comes_from_nobody_but_who_has_the_public_name(place: Place) -> None:
    old, _ = make_keys()
    with pytest.raises(HandshakeError, match="certificate is not valid"):
        await place.open(9, ech=old)
    assert len(place.seen) == 1


async def test_the_name_is_not_shown_to_a_server_without_ech(
    place: Place, certificate: Certificate, tmp_path: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.chain, certificate.key)
    for newest, words in (
        (ssl.TLSVersion.TLSv1_3, "key of the link is old"),
        (ssl.TLSVersion.TLSv1_2, "speaks no TLS 1.3|protocol"),
    ):
        context.maximum_version = newest
        server = await asyncio.start_server(pump, HOST, 0, ssl=context)
        async with server:
            place.endpoint = replace(place.endpoint, port=server.sockets[0].getsockname()[1])
            place.seen.clear()
            with pytest.raises(HandshakeError, match=words) as caught:
                await place.open(9, ech=place.configs, pinSHA256=certificate.sha256)
        assert isinstance(caught.value, EchRejectedError) is (newest is ssl.TLSVersion.TLSv1_3)
        assert len(place.seen) == 1
        assert SERVER_NAME.encode() not in place.seen[0]


async def test_a_pinned_authority_vouches_for_the_names_of_the_link(
    place: Place, certificate: Certificate, echo_port: int
) -> None:
    authority = ssl.PEM_cert_to_DER_cert(certificate.authority.read_text())
    pin = hashlib.sha256(authority).hexdigest()
    for query in ({"sni": SERVER_NAME}, {"sni": "front.test", "vcn": f"other.test,{SERVER_NAME}"}):
        stream = await place.open(echo_port, pcs=pin, **query)
        await assert_echoed(stream, 1)
        await stream.aclose()
    for query in ({"sni": "other.test"}, {"sni": SERVER_NAME, "vcn": "other.test"}):
        with pytest.raises(HandshakeError, match="for another name"):
            await place.open(9, pcs=pin, **query)


async def test_a_name_to_be_verified_may_be_another_than_the_one_that_is_shown(
    place: Place, certificate: Certificate, echo_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.authority))
    stream = await place.open(echo_port, sni="front.test", vcn=SERVER_NAME)
    await assert_echoed(stream, 1)
    await stream.aclose()
    assert b"front.test" in place.seen[0]
    with pytest.raises(HandshakeError, match="for another name"):
        await place.open(9, vcn="other.test")
