"""Subscriptions: the forms in which providers hand out links."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circumvent.errors import LinkError
from circumvent.links.subscription import parse_subscription
from circumvent.wire.bundle import Bundle
from circumvent_plugins.shadowsocks import Shadowsocks

LINES = b"# my servers\r\nss://YWVzLTEyOC1nY206cw@a.test:1#one\n\ntrojan://p@b.test:2\n"
LINKS = ("ss://YWVzLTEyOC1nY206cw@a.test:1#one", "trojan://p@b.test:2")
SERVER = {
    "id": "1",
    "remarks": "Öne",
    "server": "2001:db8::1",
    "server_port": 8388,
    "password": "p:w",
    "method": "aes-256-gcm",
}


@pytest.mark.parametrize(
    "data",
    [
        LINES,
        b"\xef\xbb\xbf" + LINES,
        base64.b64encode(LINES),
        base64.urlsafe_b64encode(LINES).rstrip(b"="),
        b"\n".join(base64.encodebytes(LINES).split()),
        LINES.decode().encode("utf-16"),
        LINES.replace(b"\n", b"\r"),
        base64.b64encode(b"\xef\xbb\xbf" + LINES),
        b"<html>\n\xb6\xab\n" + LINES + b"</html>\n",
        b"[servers]\n" + LINES,
        b"1. " + LINES.splitlines()[1] + b" | " + LINES.splitlines()[3],
        json.dumps(LINKS).encode(),
        "“ss://YWVzLTEyOC1nY206cw@a.test:1#one”,\n\u200btrojan://p@b.test:2;".encode(),
    ],
)
def test_lines_and_base64(data: bytes) -> None:
    assert parse_subscription(data) == LINKS


@pytest.mark.parametrize("data", [{"version": 1, "servers": [SERVER]}, [SERVER]])
def test_sip008_becomes_links_that_the_transport_reads(data: object) -> None:
    (link,) = parse_subscription(json.dumps(data).encode())
    entry = Shadowsocks().parse(link)
    assert (entry.host, entry.port, entry.name) == ("2001:db8::1", 8388, "Öne")


def test_a_plugin_is_not_lost_on_the_way() -> None:
    with_plugin = SERVER | {"plugin": "obfs-local", "plugin_opts": "obfs=http"}
    (link,) = parse_subscription(json.dumps([with_plugin]).encode())
    assert "plugin=obfs-local%3Bobfs%3Dhttp" in link


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<!DOCTYPE html><p>log in", "a web page came"),
        (b"  <html>", "a web page came"),
        (b'{"outbounds": []}', "not a list of servers"),
        (b"hello", "no share links"),
        (b"https://only.test/a-page", "no share links"),
        (b"circumvent://invite?trust=x", "no share links"),
        (b"\xff\xfe", "no share links"),
        (b"\x80\x81", "no share links"),
        (b'{"servers": []}', "the list is empty"),
        (b"[" * 5000, "no share links"),
        (b'[{"server": "a.test", "server_port": "x"}]', "the last of 1 says: "),
        (b"ss://a@h.test:1/" + b"p" * 5000, "none of its 1 links .*the first: link: longer than"),
        (b"", "no share links"),
    ],
)
def test_what_it_is_instead_is_said(data: bytes, reason: str) -> None:
    with pytest.raises(LinkError, match=reason):
        parse_subscription(data)


@pytest.mark.parametrize(
    "name", ["\u200fسرور", "a\u202eb", "100% up", "%B6%AB", '"a"', "a\x1bb", "n" * 9000]
)
def test_a_name_costs_no_server(name: str) -> None:
    data = f"{LINKS[0]}\nss://YWVzLTEyOC1nY206cw@b.test:1#{name}\n".encode()
    found = parse_subscription(data)
    assert [Shadowsocks().parse(link).host for link in found] == ["a.test", "b.test"]
    Bundle(1, 1, 2, found)  # which refuses what no link holds


def test_one_odd_server_does_not_stop_the_others() -> None:
    odd = [{}, "text", SERVER | {"server_port": "many"}, SERVER | {"password": None}, 7]
    plain = {"remarks": None, "plugin": None, "server": " a.test "}
    data = [*odd, SERVER, SERVER | plain, SERVER | {"remarks": 5}, *odd]
    found = parse_subscription(json.dumps({"servers": data}).encode())
    assert [Shadowsocks().parse(link).name for link in found] == ["Öne", "", "5"]


@given(st.binary(max_size=300))
def test_rubbish_is_one_clear_error_or_links(data: bytes) -> None:
    try:
        links = parse_subscription(data)
    except LinkError:
        return
    assert all("://" in link for link in links)
