"""Links with ``ech``, ``vcn`` and ``pcs``: what is encrypted, and who is trusted."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
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
from tests.peers.bind import DOH, bind
from tests.peers.certificates import SERVER_NAME, Certificate, make_certificate
from tests.peers.nginx import nginx
from tests.peers.process import Process, free_port
from tests.peers.servers import mihomo_beside
from tests.peers.services import HOST, VLESS_TLS, Endpoint
from tests.peers.watcher import Watcher, watching

PUBLIC_NAME = "harmless.test"
KEY_NAME = "key.far.test"
ZONE = """
@ 60 IN SOA ns.far.test. hostmaster.far.test. 1 60 60 60 60
@ 60 IN NS ns.far.test.
@ 60 IN HTTPS 1 . ech={key}
"""
SIZE = 1 << 20
KEYS = re.compile(r"-----BEGIN ECH (?P<kind>CONFIGS|KEYS)-----\n(?P<text>[^-]*)-----END[^\n]*\n")


def make_keys() -> tuple[str, str]:
    """A new ECHConfigList in base64, and its private key in PEM."""
    command = [sing_box.command()[0], "generate", "ech-keypair", PUBLIC_NAME]
    made = subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout
    found = {match["kind"]: match for match in KEYS.finditer(made)}
    configs = "".join(found["CONFIGS"]["text"].split())
    return configs, found["KEYS"][0]


class Place:
    """A server, and a way to it on which somebody watches."""

    def __init__(self, user: str, watcher: Watcher, configs: str) -> None:
        self.user, self.watcher, self.configs = user, watcher, configs

    async def open(self, port: int, **query: str) -> ByteStream:
        account = Memory(8 << 20).account("test")
        words = {"security": "tls", "sni": SERVER_NAME, **query}
        link = f"vless://{self.user}@{HOST}:{self.watcher.port}?" + "&".join(
            f"{key}={quote(value, safe='')}" for key, value in words.items()
        )
        entry = Vless().parse(link)
        assert Vless().parse(entry.link) == entry  # as it is kept
        tunnel = await Vless().connect(entry, NetDialer(TlsClient()), account)
        return await tunnel.open(Destination(HOST, port))


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    """The chain has its authority, as chains of a private one often do."""
    made = make_certificate(tmp_path)
    made.chain.write_bytes(made.chain.read_bytes() + made.authority.read_bytes())
    return made


@contextmanager
def sing_box_server(user: str, key: str, certificate: Certificate, folder: Path) -> Iterator[int]:
    endpoint = Endpoint(VLESS_TLS, free_port(), user, certificate)
    config = sing_box.server_config(endpoint)
    ech = {"enabled": True, "key": key.splitlines()}
    config["inbounds"][0]["tls"]["ech"] = ech  # type: ignore[index]
    file = folder / "sing-box.json"
    file.write_text(json.dumps(config))
    with Process([*sing_box.command(), str(file)], folder / "sing-box.log") as process:
        process.await_port(endpoint.port)
        yield endpoint.port


@contextmanager
def mihomo_server(user: str, key: str, certificate: Certificate, folder: Path) -> Iterator[int]:
    endpoint = Endpoint(VLESS_TLS, free_port(), user, certificate)
    with mihomo_beside(0, endpoint, folder, **{"ech-key": key}) as server:
        yield server.endpoint.port


@pytest.fixture(params=[sing_box_server, mihomo_server], ids=["sing-box", "mihomo"])
def place(
    request: pytest.FixtureRequest, certificate: Certificate, tmp_path: Path
) -> Iterator[Place]:
    configs, key = make_keys()
    user = VLESS_TLS.new_secret()
    with request.param(user, key, certificate, tmp_path) as port, watching(port) as watcher:
        yield Place(user, watcher, configs)


@pytest.fixture
async def echo_port() -> AsyncIterator[int]:
    server = await asyncio.start_server(echo, HOST, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_the_name_is_encrypted_for_a_server_with_the_key(
    place: Place, certificate: Certificate, echo_port: int
) -> None:
    stream = await place.open(echo_port, ech=place.configs, pinSHA256=certificate.sha256)
    await assert_echoed(stream, SIZE)
    await stream.aclose()
    (seen,) = place.watcher.seen
    assert PUBLIC_NAME.encode() in seen
    assert SERVER_NAME.encode() not in seen


async def test_a_key_is_looked_up_over_https(
    place: Place,
    certificate: Certificate,
    echo_port: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """BIND has it, and nginx speaks HTTPS for it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.authority))
    with (
        bind(tmp_path, certificate, KEY_NAME, ZONE.format(key=place.configs)) as names,
        nginx(tmp_path, certificate, {SERVER_NAME: DOH.format(port=names.http)}) as web,
    ):
        source = f"{KEY_NAME}+https://{HOST}:{web}/dns-query"
        for _ in range(2):
            stream = await place.open(echo_port, ech=source, pinSHA256=certificate.sha256)
            await assert_echoed(stream, 1)
            await stream.aclose()
        with pytest.raises(
            HandshakeError,
            match="the name server knows no key",
        ):
            await place.open(9, ech=source.replace(KEY_NAME, f"none.{KEY_NAME}"))
    assert len(place.watcher.seen) == 2
    assert not any(SERVER_NAME.encode() in seen for seen in place.watcher.seen)


async def test_an_old_key_is_told_and_the_name_not_shown(
    place: Place, certificate: Certificate
) -> None:
    """Neither server sends its new key."""
    old, _ = make_keys()
    with pytest.raises(EchRejectedError, match="ask for a new link"):
        await place.open(9, ech=old, pinSHA256=certificate.sha256)
    (seen,) = place.watcher.seen
    assert SERVER_NAME.encode() not in seen


async def test_a_new_key_comes_from_nobody_but_who_has_the_public_name(place: Place) -> None:
    old, _ = make_keys()
    with pytest.raises(HandshakeError, match="certificate is not valid"):
        await place.open(9, ech=old)
    assert len(place.watcher.seen) == 1


async def test_the_name_is_not_shown_to_a_server_without_ech(
    place: Place, certificate: Certificate
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.chain, certificate.key)
    for newest, words in (
        (ssl.TLSVersion.TLSv1_3, "key of the link is old"),
        (ssl.TLSVersion.TLSv1_2, "speaks no TLS 1.3|protocol"),
    ):
        context.maximum_version = newest
        server = await asyncio.start_server(echo, HOST, 0, ssl=context)
        async with server:
            place.watcher.target = server.sockets[0].getsockname()[1]
            place.watcher.seen.clear()
            with pytest.raises(HandshakeError, match=words) as caught:
                await place.open(9, ech=place.configs, pinSHA256=certificate.sha256)
        assert isinstance(caught.value, EchRejectedError) is (newest is ssl.TLSVersion.TLSv1_3)
        assert len(place.watcher.seen) == 1
        assert SERVER_NAME.encode() not in place.watcher.seen[0]


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
    assert b"front.test" in place.watcher.seen[0]
    with pytest.raises(HandshakeError, match="for another name"):
        await place.open(9, vcn="other.test")
