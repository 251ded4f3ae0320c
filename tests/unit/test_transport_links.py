"""The links of this package's transports: read, written back, refused, and warned of."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circumvent.api import (
    LinkError,
    Privacy,
    ServerEntry,
    TlsOptions,
    Transport,
    UnsupportedError,
)
from circumvent.errors import CircumventError
from circumvent.links.tls_settings import TlsLink
from circumvent.links.uri import ShareLink, format_link
from circumvent.wire.base64url import encode_base64url
from circumvent_plugins import direct, shadowsocks, trojan, vless

KEY = "A" * 43  # of REALITY
UUID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
PIN = hashlib.sha256(b"certificate").hexdigest()
OTHER_PIN = hashlib.sha256(b"other").hexdigest()

TROJAN = trojan.Trojan()
VLESS = vless.Vless()
SHADOWSOCKS = shadowsocks.Shadowsocks()
DIRECT = direct.Direct()

secrets = st.text(st.sampled_from("aZ09-._~:/?#[]@!$&'()*+,;=%\"é漢🧅"), min_size=1, max_size=24)
# What panels and clients write down though it asks for nothing that streams over TCP could lack.
DECORATION = (
    "type=tcp",
    "type=raw&headerType=none",
    "type=tcp&path=%2F&host=h.example",
    "path=/",
    "encryption=none",
    "packetEncoding=xudp",
    "udp=1&tfo=1",
    "fast-open=1&udp-relay=true&uot=2",
    "mux=0",
    "remarks=a&group=b&name=c&remarks=a",
    "&&name=&",
    "plugin=none&obfs=none",
    "type=tcp&path=/p&host=h.example&mode=gun&serviceName=s",
    "encryption=auto&headerType=b&__rand=x&Telegram=@x&pbk=x&sid=x&spx=x",
    "type=tcp%23ad&amp;security=",
)
names = st.text(st.sampled_from("aZ09 #?&%é🧅"), max_size=12).map(str.strip)
hosts = st.sampled_from(["example.com", "192.0.2.1", "2001:db8::1"])
ports = st.integers(1, 65535)
pins = st.lists(st.binary(min_size=32, max_size=32), max_size=2).map(
    lambda digests: ",".join(digest.hex() for digest in digests)
)
tls_parameters = st.fixed_dictionaries(
    {},
    optional={
        "sni": st.sampled_from(["front.example", "192.0.2.7"]),
        "alpn": st.sampled_from(["h2", "h2,http/1.1"]),
        "fp": st.sampled_from(["chrome", "firefox"]),
        "allowInsecure": st.sampled_from(["0", "1"]),
        "insecure": st.sampled_from(["0", "1"]),
        "pinSHA256": pins,
        "pinSPKI": pins,
    },
)


def make_links(
    scheme: str, users: st.SearchStrategy[str], query: dict[str, str]
) -> st.SearchStrategy[ShareLink]:
    return st.builds(
        ShareLink,
        scheme=st.just(scheme),
        user=users,
        host=hosts,
        port=ports,
        query=tls_parameters.map(lambda tls: tuple((query | tls).items())),
        name=names,
    )


def quote_all(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


def bracket(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def assert_survives(transport: Transport, link: str) -> ServerEntry:
    entry = transport.parse(link)
    assert transport.parse(entry.link) == entry
    assert entry.link.startswith(f"{transport.schemes[0]}://")
    return entry


class TestTrojanLinks:
    @given(make_links("trojan", secrets, {}))
    def test_what_was_parsed_is_written_back_the_same(self, link: ShareLink) -> None:
        entry = assert_survives(TROJAN, format_link(link))
        assert (entry.transport, entry.host, entry.port) == ("trojan", link.host, link.port)
        assert entry.name == link.name
        assert tls_of(entry).options.server_name == dict(link.query).get("sni", link.host)

    def test_repr_holds_no_secret(self) -> None:
        entry = TROJAN.parse("trojan://s3cret@example.com:443")
        assert "s3cret" not in repr(entry) + repr(entry.settings)

    def test_defaults_may_be_written_out(self) -> None:
        plain = TROJAN.parse("trojan://pw@example.com:443")
        full = "?security=tls&type=tcp&headerType=none&sni=example.com&flow=&allowInsecure=0#name"
        assert TROJAN.parse("trojan://pw@example.com:443/" + full).id == plain.id
        assert tls_of(plain).options == TlsOptions("example.com")

    @pytest.mark.parametrize(
        ("link", "message"),
        [
            ("vless://s3cret@h:1", "scheme: "),
            ("trojan://h:1", "user: the password is missing"),
            ("trojan://s3cret@h:1?pinSHA256=s3cret", "pinSHA256: "),
            (f"trojan://s3cret@h:1?pinSPKI={PIN}00", "pinSPKI: "),
        ],
    )
    def test_a_wrong_link_names_the_part(self, link: str, message: str) -> None:
        assert_refused(TROJAN, link, LinkError, message)

    @pytest.mark.parametrize(
        ("query", "named"),
        [
            ("type=grpc&serviceName=s3cret", "type=grpc"),
            ("encryption=ss%3Baes-128-gcm%3As3cret", "encryption=ss"),
            ("mux=1", "mux"),
            ("obfs=websocket", "obfs"),
            ("plugin=s3cret", "plugin"),
        ],
    )
    def test_what_we_lack_is_named(self, query: str, named: str) -> None:
        assert_refused(TROJAN, f"trojan://s3cret@h:1?{query}", UnsupportedError, named)


class TestVlessLinks:
    @given(make_links("vless", st.uuids().map(str), {"encryption": "none", "security": "tls"}))
    def test_what_was_parsed_is_written_back_the_same(self, link: ShareLink) -> None:
        entry = assert_survives(VLESS, format_link(link))
        assert (entry.host, entry.port, entry.name) == (link.host, link.port, link.name)

    def test_plain_tcp_is_the_default_and_said_to_be_plain(self) -> None:
        entry = assert_survives(VLESS, f"vless://{UUID.upper()}@example.com:80")
        assert VLESS.privacy(entry) is Privacy.PLAIN
        assert VLESS.warnings(entry)[0].startswith("security=none: ")

    def test_repr_holds_no_secret(self) -> None:
        entry = VLESS.parse(f"vless://{UUID}@example.com:443?security=tls")
        assert UUID not in repr(entry) + repr(entry.settings)

    @pytest.mark.parametrize(
        ("link", "message"),
        [
            (f"trojan://{UUID}@h:1", "scheme: "),
            (f"vless://{'s3cret' * 6}@h:1", "user: is neither a UUID"),
            ("vless://h:1", "user: is neither a UUID"),
        ],
    )
    def test_a_wrong_link_names_the_part(self, link: str, message: str) -> None:
        assert_refused(VLESS, link, LinkError, message)

    @pytest.mark.parametrize(
        ("query", "named"),
        [
            ("encryption=mlkem768x25519plus.native.s3cret", "encryption=mlkem768x25519plus"),
            ("security=tls&ech=udp://s3cret", "ech"),
            ("packetEncoding=xudp&fragment=1,2,3", "fragment"),
        ],
    )
    def test_what_we_lack_is_named(self, query: str, named: str) -> None:
        assert_refused(VLESS, f"vless://{UUID}@h:1?{query}", UnsupportedError, named)


class TestShadowsocksLinks:
    @given(make_links("ss", secrets, {}), st.sampled_from(sorted(shadowsocks.METHODS)))
    def test_all_ways_to_write_a_link_mean_the_same(self, link: ShareLink, method: str) -> None:
        user, address = f"{method}:{link.user}", f"{bracket(link.host)}:{link.port}"
        tail = f"#{quote_all(link.name)}" if link.name else ""
        entries = [
            assert_survives(SHADOWSOCKS, f"ss://{body}{tail}")
            for body in (
                f"{encode_base64url(user.encode())}@{address}",
                f"{quote_all(encode(user))}@{address}/?plugin=",
                f"{quote_all(user)}@{address}/?outline=1",
                encode(f"{user}@{address}"),
            )
        ]
        assert all(entry == entries[0] for entry in entries)
        assert entries[0].settings == shadowsocks.ShadowsocksSettings(
            shadowsocks.METHODS[method], link.user
        )
        assert SHADOWSOCKS.privacy(entries[0]) is Privacy.ENCRYPTED
        assert not SHADOWSOCKS.warnings(entries[0])

    def test_the_example_of_sip002(self) -> None:
        entry = SHADOWSOCKS.parse("ss://YWVzLTEyOC1nY206dGVzdA@192.168.100.1:8888#Example1")
        assert entry.settings == shadowsocks.ShadowsocksSettings("aes-128-gcm", "test")
        assert entry.name == "Example1"

    def test_methods_are_read_in_any_case_and_written_in_one(self) -> None:
        upper = SHADOWSOCKS.parse("ss://CHACHA20-POLY1305:pw@h:1")
        assert upper == SHADOWSOCKS.parse("ss://chacha20-ietf-poly1305:pw@h:1")

    def test_repr_holds_no_secret(self) -> None:
        entry = SHADOWSOCKS.parse("ss://aes-128-gcm:s3cret@h:1")
        assert "s3cret" not in repr(entry) + repr(entry.settings)

    @pytest.mark.parametrize(
        ("link", "message"),
        [
            ("trojan://s3cret@h:1", "scheme: "),
            ("ss://s3cret!", "link: is not valid base64"),
            (f"ss://{encode('aes-128-gcm:s3cret')}", "user: missing"),
            (f"ss://{encode('aes-128-gcm:s3cret@h')}", "port: missing"),
            (f"ss://{encode('s3cret:s3cret@h:1')}", "method: unknown"),
            ("ss://s3cret:s3cret@h:1", "method: unknown"),
            ("ss://s3cret!@h:1", "user: is not valid base64"),
            ("ss://%2F%2F%2F%2F@h:1", "user: its base64 holds no text"),
            ("ss://aes-128-gcm:@h:1", "user: is not 'method:password'"),
            (f"ss://{encode('s3cret')}@h:1", "user: is not 'method:password'"),
            ("ss://aes-128-gcm:s3cret@h:99999", "port: "),
            ("ss://aes-128-gcm:s3cret@h:1?prefix=s3cret%E2%82%AC", "prefix: holds a character"),
            ("ss://aes-128-gcm:s3cret@h:1?prefix=s3creturl", "prefix: is longer than 8"),
        ],
    )
    def test_a_wrong_link_names_the_part(self, link: str, message: str) -> None:
        assert_refused(SHADOWSOCKS, link, LinkError, message)

    @pytest.mark.parametrize(
        ("link", "named"),
        [
            ("ss://2022-blake3-aes-256-gcm:s3cret%3D@h:1", "method 2022-blake3-aes-256-gcm"),
            ("ss://rc4-md5:s3cret@h:1", "method rc4-md5"),
            ("ss://aes-256-cfb:s3cret@h:1", "method aes-256-cfb"),
            ("ss://none:s3cret@h:1", "method none"),
            ("ss://aes-128-gcm:s3cret@h:1/?plugin=v2ray-plugin%3Bpath%3Ds3cret", "v2ray-plugin"),
            ("ss://aes-128-gcm:s3cret@h:1/?plugin=s3cret", "plugin="),
            ("ss://aes-128-gcm:s3cret@h:1?headerType=http", "headerType=http"),
            ("ss://aes-128-gcm:s3cret@h:1?security=tls&type=httpupgrade", "type=httpupgrade"),
            ("ss://aes-128-gcm:s3cret@h:1?type=ws", "type=ws"),
            ("ss://aes-128-gcm:s3cret@h:1?security=tls", "security=tls"),
            ("ss://aes-128-gcm:s3cret@h:1?fm=s3cret", "fm"),
            ("ss://aes-128-gcm:s3cret@h:1?obfs=http", "obfs"),
            (f"ss://{encode('aes-128-gcm:s3cret@h:1')}?plugin=obfs-local", "plugin=obfs-local"),
        ],
    )
    def test_what_we_lack_is_named(self, link: str, named: str) -> None:
        assert_refused(SHADOWSOCKS, link, UnsupportedError, named)

    @pytest.mark.parametrize(
        ("user", "password"),
        [
            ("aes-128-gcm:test\n", "test"),
            ("aes-128-gcm:test\r\n", "test"),
            ("\n aes-128-gcm :test\n", "test"),
            ("\ufeffaes-128-gcm:test", "test"),
            ("aes-128-gcm: a b ", " a b "),  # no tool adds blanks
            ("aes-128-gcm:test \n", "test "),
        ],
    )
    def test_line_ends_around_a_user_come_out_of_a_file_and_go(
        self, user: str, password: str
    ) -> None:
        plain = shadowsocks.ShadowsocksSettings("aes-128-gcm", password)
        for link in (
            f"ss://{encode(user)}@h:1",
            f"ss://{quote_all(encode(user) + chr(10))}@h:1".replace("%0A", "%0D%0A"),
            f"ss://%20{encode(user)}==%20@h:1",
            f"ss://{encode_base64url(user.encode())}@h:1",
        ):
            assert assert_survives(SHADOWSOCKS, link).settings == plain

    @pytest.mark.parametrize(
        ("written", "prefix"),
        [("POST%20", b"POST "), ("%16%03%01%00%C2%A8%01%01", b"\x16\x03\x01\0\xa8\x01\x01")],
    )
    def test_a_prefix_is_bytes_by_their_code_points(self, written: str, prefix: bytes) -> None:
        entry = assert_survives(
            SHADOWSOCKS, f"ss://aes-256-gcm:test@h:1?outline=1&prefix={written}"
        )
        assert entry.settings == shadowsocks.ShadowsocksSettings("aes-256-gcm", "test", prefix)

    def test_an_old_link_may_be_decorated_too(self) -> None:
        plain = SHADOWSOCKS.parse("ss://aes-128-gcm:test@h:1#a")
        old = encode("aes-128-gcm:test@h:1\n")
        for link in (f"ss://{old}#a", f"ss://{quote_all(old)}/?type=tcp&udp=1#a"):
            assert SHADOWSOCKS.parse(link) == plain

    def test_a_line_end_within_a_password_is_refused(self) -> None:
        user = encode("aes-128-gcm:s3\ncret")
        assert_refused(
            SHADOWSOCKS, f"ss://{user}@h:1", LinkError, "user: the password holds a control"
        )


class TestDecoration:
    @pytest.mark.parametrize(
        ("transport", "link"),
        [
            (TROJAN, "trojan://p@h.example:1?"),
            (VLESS, f"vless://{UUID}@h.example:1?security=tls&"),
            (SHADOWSOCKS, "ss://aes-128-gcm:p@h.example:1?"),
        ],
    )
    def test_what_asks_for_nothing_changes_nothing(self, transport: Transport, link: str) -> None:
        plain = transport.parse(link)
        for query in DECORATION:
            assert assert_survives(transport, f"{link}{query}&#name").id == plain.id
        assert transport.parse(link.replace("h.example:", "h.example.:")).id == plain.id

    def test_of_other_carriages_nothing_is_asked(self) -> None:
        rest = "type=TCP&mode=gun&authority=a.test&serviceName=s&seed=x&quicSecurity=none&flow=none"
        for link in ("trojan://p@h.example:1?", f"vless://{UUID}@h.example:1?security=TLS&"):
            transport = TROJAN if link[0] == "t" else VLESS
            assert transport.parse(link + rest).id == transport.parse(link).id

    def test_what_follows_the_port_asks_for_nothing(self) -> None:
        for transport, link in (
            (TROJAN, "trojan://p@h.example:1"),
            (VLESS, f"vless://{UUID}@h.example:1"),
            (SHADOWSOCKS, "ss://aes-128-gcm:p@h.example:1"),
        ):
            assert transport.parse(f"{link}/other.example?a=b").id == transport.parse(link).id

    def test_trojan_has_a_port_of_its_own_and_may_go_without_tls(self) -> None:
        assert TROJAN.parse("trojan://p@h.example").port == 443
        plain = assert_survives(TROJAN, "trojan://p@h.example?security=none&flow=xtls-rprx-direct")
        assert TROJAN.privacy(plain) is Privacy.PLAIN
        assert TROJAN.warnings(plain)[0].startswith("security=none: ")

    @pytest.mark.parametrize(
        ("word", "mapped"),
        [  # of https://github.com/XTLS/Xray-core/issues/158
            ("example", "feb54431-301b-52bb-a6dd-e1e93e81bb9e"),
            ("我爱🍉老师1314", "5783a3e7-e373-51cd-8642-c83782b807c5"),
        ],
    )
    def test_an_id_may_be_a_word(self, word: str, mapped: str) -> None:
        assert vless.parse_user(word) == mapped
        assert VLESS.parse(f"vless://{word}@h:1") == VLESS.parse(f"vless://{mapped}@h:1")

    def test_an_id_may_lack_its_dashes(self) -> None:
        bare = VLESS.parse(f"vless://{UUID.replace('-', '')}@h:1")
        assert bare == VLESS.parse(f"vless://{UUID}@h:1")


class TestTlsOfLinks:
    def test_the_old_word_for_sni_is_understood(self) -> None:
        old = TROJAN.parse("trojan://p@h:1?allowInsecure=0&peer=A.example#x")
        assert old == TROJAN.parse("trojan://p@h:1?sni=a.example#x")

    def test_pins_are_digests_with_or_without_colons(self) -> None:
        colons = ":".join(PIN.upper()[index : index + 2] for index in range(0, 64, 2))
        entry = TROJAN.parse(f"trojan://p@h:1?pinSHA256={colons},{OTHER_PIN}&pinSPKI={PIN}")
        options = tls_of(entry).options
        assert options.certificate_sha256 == (bytes.fromhex(PIN), bytes.fromhex(OTHER_PIN))
        assert options.spki_sha256 == (bytes.fromhex(PIN),)
        assert options.verify

    @pytest.mark.parametrize("switch", ["allowInsecure=1", "insecure=true"])
    @pytest.mark.parametrize(
        ("transport", "link"),
        [(TROJAN, "trojan://p@h:1?"), (VLESS, f"vless://{UUID}@h:1?security=tls&")],
    )
    def test_insecure_is_a_warning_and_no_longer_private(
        self, transport: Transport, link: str, switch: str
    ) -> None:
        assert transport.privacy(transport.parse(link + "sni=")) is Privacy.ENCRYPTED
        entry = transport.parse(link + switch)
        assert not tls_of(entry).options.verify
        assert transport.privacy(entry) is Privacy.UNVERIFIED
        assert transport.warnings(entry)[0].startswith("allowInsecure: ")

    def test_a_pin_makes_insecure_private_again(self) -> None:
        entry = TROJAN.parse(f"trojan://p@h:1?insecure=1&pinSHA256={PIN}")
        assert TROJAN.privacy(entry) is Privacy.ENCRYPTED
        assert "pins" in TROJAN.warnings(entry)[0]

    def test_a_fingerprint_chooses_the_client_hello(self) -> None:
        entry = TROJAN.parse("trojan://p@h:1?fp=Firefox")
        assert tls_of(entry).options.fingerprint == "firefox"
        assert not TROJAN.warnings(entry)


class TestDirectLink:
    def test_it_is_a_bare_scheme(self) -> None:
        entry = assert_survives(DIRECT, "direct://")
        assert DIRECT.privacy(entry) is Privacy.DIRECT
        assert DIRECT.warnings(entry)
        assert_refused(DIRECT, "direct://s3cret@h:1", LinkError, "link: ")


def assert_refused(
    transport: Transport, link: str, kind: type[CircumventError], message: str
) -> None:
    with pytest.raises(kind) as caught:
        transport.parse(link)
    text = str(caught.value)
    assert message in text
    assert not any(secret in text for secret in ("s3cret", UUID, encode("s3cret")[:6]))


def tls_of(entry: ServerEntry) -> TlsLink:
    settings = entry.settings
    assert isinstance(settings, trojan.TrojanSettings | vless.VlessSettings)
    assert isinstance(settings.stream.security, TlsLink)
    return settings.stream.security
