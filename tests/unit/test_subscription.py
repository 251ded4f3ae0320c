"""Subscriptions: the forms in which providers hand out links."""

import base64
import hashlib
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circumvent.discovery.list_reading import ListReading
from circumvent.discovery.origins import parse_origin
from circumvent.discovery.sources import lists_account
from circumvent.errors import LinkError
from circumvent.links.list_reader import number_links
from circumvent.memory import Memory
from circumvent.wire.link_text import is_clean
from circumvent_plugins.shadowsocks import Shadowsocks
from circumvent_plugins.trojan import Trojan

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
ORIGIN = parse_origin("https://provider.test/list")
TRANSPORTS = {"ss": Shadowsocks(), "trojan": Trojan()}


def reading(budget: int = 4 << 20) -> ListReading:
    return ListReading(ORIGIN, 1000.0, TRANSPORTS, lists_account(Memory(budget)))


def parse_subscription(data: bytes, size: int = 1 << 20) -> tuple[str, ...]:
    """What is read of ``data``, when it comes in pieces of this ``size``."""
    read = reading()
    for start in range(0, len(data), size):
        read.take(data[start : start + size])
    read.end()
    return read.finish().entries


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
        b"#profile-title: x\n#https://panel.test\n" + base64.b64encode(LINES),
        b"data:text/plain;base64," + base64.b64encode(LINES),
        base64.b64encode(LINKS[0].encode()) + b"\n" + base64.b64encode(LINKS[1].encode()),
        base64.b64encode(LINKS[0].encode()) + b"\n" + LINKS[1].encode() + b"\nvmess://x\n",
        LINES + LINES.replace(b"#one", b"#another"),
    ],
)
@pytest.mark.parametrize("size", [5, 1 << 20])
def test_lines_and_base64(data: bytes, size: int) -> None:
    assert parse_subscription(data, size) == LINKS


@pytest.mark.parametrize("pack", [bytes, base64.b64encode, base64.encodebytes])
def test_a_list_of_any_length_is_read_as_it_comes(pack: Callable[[bytes], bytes]) -> None:
    lines = [f"ss://YWVzLTEyOC1nY206cw@192.0.2.7:{port}#{port}" for port in range(1, 1001)]
    unusable = ["vmess://abc"] * 300
    data = pack("\n".join([*unusable, *lines]).encode())
    assert parse_subscription(data, 1000) == tuple(lines)


def test_what_cannot_be_used_is_told_in_one_line() -> None:
    read = reading()
    read.take(b"vmess://a\n" * 2 + LINES + b"ss://%\njust words\nhttps://ads.test/x\n")
    read.end()
    assert read.finish().count == 2
    told = read.complaint()
    assert told.startswith("3 of 5 links cannot be used: 2 x vmess:// is not supported")
    assert "\n" not in told


def test_a_list_takes_a_share_of_the_memory_and_the_rest_is_told() -> None:
    memory = Memory(1 << 20)
    read = ListReading(ORIGIN, 1000.0, TRANSPORTS, lists_account(memory))
    for number in range(30_000 // 100):
        keys = range(number * 100, number * 100 + 100)
        hosts = (hashlib.sha256(b"%d" % key).hexdigest() for key in keys)
        read.take("".join(f"trojan://{host[:32]}@{host[32:]}.test:1\n" for host in hosts).encode())
    assert 0 < memory.charged <= memory.budget // 4
    read.end()
    servers = read.finish()
    read.close()
    assert servers.size < memory.budget // 3
    assert 3000 < servers.count < 30_000
    assert f"{30_000 - servers.count} more have no room in memory" in read.complaint()
    assert memory.charged == 0


@pytest.mark.parametrize("data", [{"version": 1, "servers": [SERVER]}, [SERVER]])
def test_sip008_becomes_links_that_the_transport_reads(data: object) -> None:
    (link,) = parse_subscription(json.dumps(data).encode())
    entry = Shadowsocks().parse(link)
    assert (entry.host, entry.port, entry.name) == ("2001:db8::1", 8388, "Öne")


def test_a_plugin_is_not_lost_on_the_way() -> None:
    with_plugin = SERVER | {"plugin": "obfs-local", "plugin_opts": "obfs=http"}
    ((_, link),) = number_links(json.dumps([with_plugin]))
    assert "plugin=obfs-local%3Bobfs%3Dhttp" in link


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<!DOCTYPE html><p>log in", "a web page came"),
        (b"  <html>", "a web page came"),
        (b'{"outbounds": []}', "JSON of sing-box or Xray, which is not read yet"),
        (b"port: 7890\nproxies:\n  - {name: a}\n", "Clash YAML, which is not read yet"),
        (b'{"a": []}', "not a list of servers"),
        (b"hello", "no share links"),
        (b"https://only.test/a-page", "no share links"),
        (b"circumvent://invite?trust=x", "no share links"),
        (b"\xff\xfe", "no share links"),
        (b"\x80\x81", "no share links"),
        (b'{"servers": []}', "the list is empty"),
        (b"[" * 5000, "no share links"),
        (b'[{"server": "a.test", "server_port": "x"}]', "the last of 1 says: "),
        (b"ss://a@h.test:1/" + b"p" * 5000, "1 of 1 links cannot be used: 1 x link: longer than"),
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
    assert all(map(is_clean, found))


def test_one_odd_server_does_not_stop_the_others() -> None:
    odd = [{}, "text", SERVER | {"server_port": "many"}, SERVER | {"password": None}, 7]
    plain = {"remarks": None, "plugin": None, "server": " a.test "}
    data = [*odd, SERVER, SERVER | plain, *odd]
    found = parse_subscription(json.dumps({"servers": data}).encode())
    assert [Shadowsocks().parse(link).name for link in found] == ["Öne", ""]


@given(st.binary(max_size=300))
def test_rubbish_is_one_clear_error_or_links(data: bytes) -> None:
    try:
        links = parse_subscription(data)
    except LinkError:
        return
    assert all("://" in link for link in links)
