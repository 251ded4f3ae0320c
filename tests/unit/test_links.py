"""Share links are read as people write them, written back the same; errors give nothing away."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circumvent.errors import LinkError, UnsupportedError
from circumvent.links.query import LinkQuery, find_word, lacking
from circumvent.links.uri import ShareLink, format_link, parse_link
from circumvent.wire.base64url import decode_base64, encode_base64url
from circumvent.wire.host_port import parse_host
from circumvent.wire.link_text import MAX_LINK

letters = st.sampled_from("aZ09-._~:/?#[]@!$&'()*+,;=%\"<>\\^`{|}éß漢🧅")
texts = st.text(letters, max_size=30)
names = texts.filter(lambda text: "://" not in text)
words = st.text(letters, min_size=1, max_size=30)
keys = words.filter(lambda text: not text.startswith(";"))  # that is left of a spoiled "&amp;"
labels = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
hosts = st.one_of(
    st.lists(labels, min_size=1, max_size=4).map(".".join),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
)
ports = st.integers(1, 65535)
links = st.builds(
    ShareLink,
    scheme=st.from_regex(r"[a-z][a-z0-9+.-]{0,8}", fullmatch=True),
    user=texts,
    host=hosts,
    port=ports,
    path=texts.map(lambda text: "/" + text if text else ""),
    query=st.dictionaries(keys, texts, max_size=4).map(lambda query: tuple(query.items())),
    name=names,
)


@given(links)
def test_what_was_formatted_parses_to_the_same(link: ShareLink) -> None:
    assert parse_link(format_link(link)) == link


@given(st.text(max_size=80))
def test_any_text_parses_or_raises_a_link_error(text: str) -> None:
    for candidate in (text, "trojan://" + text):
        try:
            parse_link(candidate)
        except LinkError:
            continue


def test_every_part_is_decoded() -> None:
    link = parse_link("Trojan://p%40ss%3A%C3%A9@Example.COM:443/a%20b?x=1%262&y=a+b#Caf%C3%A9 no.1")
    assert link == ShareLink(
        scheme="trojan",
        user="p@ss:é",
        host="example.com",
        port=443,
        path="/a b",
        query=(("x", "1&2"), ("y", "a+b")),
        name="Café no.1",
    )


@pytest.mark.parametrize(
    ("written", "host"),
    [
        ("[2001:DB8::0:1]", "2001:db8::1"),
        ("192.0.2.1", "192.0.2.1"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("_dmarc.a-b.example", "_dmarc.a-b.example"),
        ("Example.COM.", "example.com"),
        ("192.0.2.1.", "192.0.2.1"),
    ],
)
def test_hosts_become_canonical(written: str, host: str) -> None:
    assert parse_link(f"ss://u@{written}:1").host == host


@pytest.mark.parametrize(
    ("text", "part", "advice"),
    [
        ("", "scheme", "copy the whole link"),
        ("s3cret@host:443", "scheme", "copy the whole link"),
        ("x://@host:443", "user", "copy the whole link"),
        ("x://s3cret%ff@host:443", "user", "encode it again"),
        ("x://s3cret@more", "port", "copy the whole link"),
        ("x://s3/cret@host", "link", "copy the whole link"),
        ("x://s3cret@ho st:1", "host", "correct it"),
        ("x://s3cret@host:1x://s3cret@host:2", "link", "line of its own"),
        ("x://s3cret%00@host:443", "user", "remove it"),
        ("x://s3cret@host", "port", "after the host"),
        ("x://s3cret@host:", "port", "65535"),
        ("x://s3cret@host:0", "port", "65535"),
        ("x://s3cret@host:65536", "port", "65535"),
        ("x://s3cret@host:+443", "port", "65535"),
        ("x://s3cret@host:٤٤٣", "port", "65535"),
        ("x://s3cret@:443", "host", "correct it"),
        ("x://s3cret@a..b:443", "host", "correct it"),
        ("x://s3cret@-a:443", "host", "correct it"),
        ("x://s3cret@ho%73t:443", "host", "as it is"),
        ("x://s3cret@127.1:443", "host", "four numbers"),
        ("x://s3cret@1.2.3.256:443", "host", "four numbers"),
        ("x://s3cret@[::g]:443", "host", "brackets"),
        ("x://s3cret@[fe80::1%eth0]:443", "host", "leave it out"),
        ("x://s3cret@[::1:443", "port", "after the host"),
        ("x://s3cret@host:1\nx://s3cret@host:2", "link", "copy it again"),
        ("x://s3cret\ud800@host:1", "link", "copy it again"),
        ("x://s3cret\ufffd@host:1#name", "link", "copy it again"),
        ("x://s3cret@host:1?k=" + "a" * MAX_LINK, "link", "one link only"),
    ],
)
def test_an_error_names_the_part_says_what_to_do_and_repeats_nothing(
    text: str, part: str, advice: str
) -> None:
    with pytest.raises(LinkError) as caught:
        parse_link(text)
    message = str(caught.value)
    assert message.startswith(part + ": ")
    assert advice in message
    assert not any(piece in message for piece in ("s3", "cret@", "more", "other", "eman"))
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("x://a@b@host:443", ShareLink("x", "a@b", "host", 443)),
        ("x://@b@@host:443", ShareLink("x", "@b@", "host", 443)),
        ("x://s/c?r@host:443/p?k=v", ShareLink("x", "s/c?r", "host", 443, "/p", (("k", "v"),))),
        (
            "x://u@host:443?k=/@a:1/@b:2",
            ShareLink("x", "u", "host", 443, "", (("k", "/@a:1/@b:2"),)),
        ),
        ("x://host:443/@a:1?k=@b:2", ShareLink("x", "", "host", 443, "/@a:1", (("k", "@b:2"),))),
        ("x://100%@host:443", ShareLink("x", "100%", "host", 443)),
        ("x://a b@host:443?k= v w ", ShareLink("x", "a b", "host", 443, "", (("k", "v w"),))),
        ("x://u@host:443 ", ShareLink("x", "u", "host", 443)),
        ("x://u@host: 443 #n", ShareLink("x", "u", "host", 443, name="n")),
        ("x://u@2001:db8::1:443", ShareLink("x", "u", "2001:db8::1", 443)),
        ("x://u@[192.0.2.1]:443", ShareLink("x", "u", "192.0.2.1", 443)),
        ("x://u@ho\u202est:443", ShareLink("x", "u", "host", 443)),
    ],
)
def test_what_has_one_meaning_is_read_as_it_was_meant(written: str, meant: ShareLink) -> None:
    assert parse_link(written) == meant


@pytest.mark.parametrize(
    "query",
    [
        "k=v&security=tls",
        "k=v&amp;security=tls",
        "k=v&amp;amp;security=tls",
        "k=v&AMP;security=tls",
        "k=v\\u0026security=tls",
        "k=v&%3Bsecurity=tls",
        "k=v&amp%3Bsecurity=tls",
        "&k=v&&security=tls&",
        "k=v&junk&=junk&security=tls",
        "k=v&security=tls&k=v",
    ],
)
def test_an_ampersand_is_found_however_it_was_spoiled(query: str) -> None:
    assert parse_link(f"x://u@host:1?{query}").query == (("k", "v"), ("security", "tls"))


def test_a_key_that_is_given_twice_is_kept_twice() -> None:
    assert parse_link("x://u@host:1?k=a&%6B=b").query == (("k", "a"), ("k", "b"))


def test_the_port_may_be_left_out_where_a_protocol_has_one() -> None:
    assert parse_link("x://u@host", 443) == ShareLink("x", "u", "host", 443)
    assert parse_link("x://u@[2001:db8::1]?k=v", 443).host == "2001:db8::1"


def test_repr_hides_what_may_be_secret() -> None:
    link = parse_link("x://s3cret@host:443/s3cret?k=s3cret#name")
    assert "s3cret" not in repr(link)
    assert "host" in repr(link)


def test_spaces_around_a_pasted_link_are_trimmed() -> None:
    assert parse_link("  x://u@host:1#a \n") == ShareLink("x", "u", "host", 1, name="a")


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("\u200fسرور", "سرور"),
        ("server 1\u200e", "server 1"),
        ("100% up", "100% up"),
        ("%zz%C3%A9", "%zzé"),
        ("%B6%AB%BE%A9", "\ufffd\ufffd\ufffd\ufffd"),
        ("a@b 'c' \"d\" “e” #f?g", "a@b 'c' \"d\" “e” #f?g"),
        ("🇮🇷 👨\u200d👩 می\u200cروم", "🇮🇷 👨\u200d👩 می\u200cروم"),
        ("%1B[31mred%07", "[31mred"),
        ("a%0D%0Ab%00\x85c", "a  b  c"),
        ("a\u061cb%E2%80%A8c\u2029d", "ab c d"),
        ("%E2%80%AEeman%E2%81%A6x\ud800", "emanx"),
        ("\ufeff\u200b\u00a0", ""),
        ("a" * 5000, "a" * 100),
        ("Ann ss://s3cret@h:1#Ben", "Ann"),
        ("Annss://s3cret@h:1#Ben", ""),
        ("join https://chat.test/x", "join"),
    ],
)
def test_any_name_leaves_the_link_usable_and_is_shown_safely(written: str, shown: str) -> None:
    link = parse_link(f"x://u@host:1#{written}")
    assert link == ShareLink("x", "u", "host", 1, name=shown)
    assert parse_link(format_link(link)) == link


def test_line_ends_around_a_secret_come_out_of_a_file_and_go() -> None:
    assert parse_link("x://%0Aa%0Ab@h:1".replace("%0Ab", "b%0D%0A")).user == "ab"
    assert parse_link("x://a%20@h:1").user == "a "


def test_empty_pieces_and_repetitions_of_a_query_are_no_error() -> None:
    link = parse_link("x://u@host:1?&a=1&&b=&a=1&b=2&#name")
    assert link.query == (("a", "1"), ("b", ""), ("b", "2"))
    assert LinkQuery(link).take("b") == "2"


def test_a_link_has_at_most_4096_characters() -> None:
    longest = "x://u@host:1?a=".ljust(4096, "b")
    assert parse_link(longest).query == (("a", longest.partition("=")[2]),)
    with pytest.raises(LinkError, match=r"^link: longer"):
        parse_link(longest + "b")


@given(st.binary(max_size=64))
def test_base64_is_read_in_both_alphabets_with_and_without_padding(raw: bytes) -> None:
    text = encode_base64url(raw)
    padded = text + "=" * (-len(text) % 4)
    assert "=" not in text
    for written in (text, padded, padded.replace("-", "+").replace("_", "/")):
        assert decode_base64("user", written) == raw


@pytest.mark.parametrize("text", ["s3cre", "s3c!", "s3c!t", "s3=c", "s3cré"])
def test_bad_base64_names_its_part(text: str) -> None:
    with pytest.raises(LinkError, match=r"^user: is not valid base64"):
        decode_base64("user", text)


@pytest.mark.parametrize("text", ["", "a b", "a/b", "é" * 70, "a" * 64, ".a", ".", "a.."])
def test_a_wrong_host_is_refused(text: str) -> None:
    with pytest.raises(LinkError, match=r"^host: "):
        parse_host(text)


class TestLinkQuery:
    def test_a_parameter_that_was_not_taken_is_named_without_its_value(self) -> None:
        query = make_query(pbk="s3cret", known="1", sid="s3cret", empty="")
        assert query.take("known") == "1"
        with pytest.raises(UnsupportedError, match=r"^pbk, sid in the query is not supported"):
            query.finish()

    def test_a_strange_key_is_not_repeated(self) -> None:
        with pytest.raises(UnsupportedError, match=r"^a parameter in the query"):
            make_query(**{"s3cret:word": "1"}).finish()

    def test_what_is_lacking_is_named_with_its_value_when_that_is_a_word(self) -> None:
        assert str(lacking("type", "grpc")).startswith("type=grpc is not supported")
        assert str(lacking("encryption", "x.key/s3cret")).startswith("encryption is not supported")

    def test_the_longest_word_that_a_value_begins_with_is_meant(self) -> None:
        words = ("http", "httpupgrade", "tcp")
        assert find_word("HttpUpgrade\U0001f680ad", words) == "httpupgrade"
        assert find_word(" tcp#ad", words) == "tcp"
        assert find_word("atcp", words) == find_word("", words) == ""

    def test_read_leniently_only_what_shapes_a_connection_is_refused(self) -> None:
        query = make_query(pbk="s3cret", __rand="s3cret", Telegram="@s3cret")
        query.finish_leniently()
        with pytest.raises(UnsupportedError, match=r"^fm, fragment in the query"):
            make_query(fm="{}", fragment="1,2,3", seed="s3cret").finish_leniently()

    def test_of_two_values_the_first_counts_and_a_note_says_so(self) -> None:
        query = make_query(sni="a", SNI="b", host="c", Host="c", peer="d")
        assert (query.take("sni"), query.take("host")) == ("a", "c")
        assert query.take("nothing", "peer") == "d"
        assert query.notes == ["sni: is given twice, differently; the first one counts"]
        with pytest.raises(LinkError, match="given twice"):
            query.finish()

    def test_lists_flags_and_words(self) -> None:
        query = make_query(list="a, b", on="True", off="0", word="ios_14")
        assert query.take_list("list") == ("a", "b")
        assert query.take_list("none") == ()
        assert (query.take_flag("on"), query.take_flag("off")) == (True, False)
        assert query.take_word("word") == "ios_14"
        query.finish()

    @pytest.mark.parametrize("key", ["packetEncoding", "udp-relay", "fast_open", "UoT", "remarks"])
    def test_decoration_asks_for_nothing(self, key: str) -> None:
        make_query(**{key: "anything"}).finish()

    def test_how_keys_and_words_are_written_does_not_count(self) -> None:
        query = make_query(SNI="a", allow_insecure="1")
        assert query.take("sni") == "a"
        assert query.take_flag("allowInsecure")
        query.finish()

    @pytest.mark.parametrize("off", ["0", "false", "none", "OFF"])
    def test_what_is_switched_off_asks_for_nothing(self, off: str) -> None:
        make_query(mux=off, obfs=off, plugin=off).finish()
        with pytest.raises(UnsupportedError, match=r"^mux in the query"):
            make_query(mux="1").finish_leniently()

    def test_malformed_values_name_their_key(self) -> None:
        query = make_query(list="a,,b", flag="maybe", word="two words")
        with pytest.raises(LinkError, match=r"^list: "):
            query.take_list("list")
        assert not query.take_flag("flag")
        assert query.notes == ["flag: is a switch and neither 0 nor 1; taken as 0"]
        with pytest.raises(LinkError, match=r"^word: "):
            query.take_word("word")


def make_query(**parameters: str) -> LinkQuery:
    return LinkQuery(ShareLink("x", "u", "host", 1, query=tuple(parameters.items())))
