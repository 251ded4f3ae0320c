"""Pasted links: what stands around them, and what their names hold, is no part of them."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circumvent.links.list_reader import number_links
from circumvent.links.pasted import split_links, tidy, unpack, unwrap
from circumvent.links.uri import format_link, parse_link
from circumvent.wire.link_text import MAX_LINK, is_clean

LINK = "ss://YWVzLTEyOC1nY206cw@192.0.2.7:8388"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("'", "'"),
        ('"', '",'),
        ("“", "”"),
        ("„", "“;"),
        ("«", "»"),
        ("« ", " »"),
        ("`", "`"),
        ("<", ">"),
        ("\ufeff", ""),
        ("\u200b\u200c", "\u200d\u200b"),
        ("\u2060\u00ad", "\u00ad"),
        ("\u200f", "\u200e"),
        ("\u2068", "\u2069"),
        ("\u202a", "\u202c"),
        (" \t\u00a0\u3000", "\u00a0\u2003\r\n"),
        ("\u200e“\u00a0", "\u00a0”\u200e"),
    ],
)
def test_quotes_and_blanks_around_a_link_are_removed(before: str, after: str) -> None:
    for link in (LINK, f"{LINK}#Ann's “best” one", f"{LINK}?type=tcp#a"):
        assert unwrap(before + link + after) == link


@pytest.mark.parametrize("after", [",", ";", ", ", "\u3001"])
def test_separators_after_a_link_are_removed(after: str) -> None:
    assert unwrap(LINK + after) == LINK


def test_invisible_characters_within_a_link_are_removed() -> None:
    cut = "\u200b".join((LINK[:10], LINK[10:20], LINK[20:]))
    assert unwrap(f"{cut}\u200f #a") == f"{LINK}#a"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("1. ", ""),
        ("- ", ""),
        ("\U0001f525", ""),
        ("Server #1: ", ""),
        ("circumvent run '", "'"),
        ("(", ")."),
        ("[mine](", ") and so on"),
        ("[", "]"),
        ("\u3010", "\u3011"),
        ("**", "**"),
        ("~~_", "_~~"),
        ('<a class="x" href="', '">mine</a>'),
        ("<li>", "</li>"),
        ("", "<br>"),
    ],
)
def test_markup_and_numbers_before_a_link_are_removed(before: str, after: str) -> None:
    for link in (LINK, f"{LINK}#a"):
        assert unwrap(before + link + after) == link


@pytest.mark.parametrize("after", [".", "!", "\u2026", "\u3002", "\U0001f525", " \u2705"])
def test_the_end_of_a_sentence_is_no_part_of_a_port(after: str) -> None:
    assert unwrap(LINK + after) == LINK


def test_the_source_of_a_page_writes_ampersands_out() -> None:
    assert unwrap(f"{LINK}?a=1&amp;b=2") == f"{LINK}?a=1&b=2"


@pytest.mark.parametrize("between", [" ", "\t", ", ", " | ", ";", '","', "\uff0c"])
@pytest.mark.parametrize("tail", ["", "#a"])
def test_a_line_may_hold_several_links(between: str, tail: str) -> None:
    both = f"{LINK}{tail}{between}trojan://p@h.test:1{tail}"
    assert list(split_links(both)) == [LINK + tail, f"trojan://p@h.test:1{tail}"]


def test_the_address_of_a_page_within_a_link_is_no_link_of_its_own() -> None:
    for link in (f"{LINK}#join https://t.test/x", "circumvent://invite?source=https://a.test/b"):
        assert list(split_links(link)) == [link]


def test_a_list_in_base64_is_a_list() -> None:
    pieces = (f"{LINK}#a\n{LINK}#b\n", f"{LINK}#cd\n")
    packed = b"# spring\n" + b"".join(base64.encodebytes(piece.encode()) for piece in pieces)
    links = [link for _, link in number_links(packed.decode())]
    assert links == [f"{LINK}#a", f"{LINK}#b", f"{LINK}#cd"]
    assert unpack("nonsense") == "nonsense"


def test_a_name_keeps_its_own_quotes() -> None:
    assert unwrap(f"{LINK}#the 'fast' one, \"A\"") == f"{LINK}#the 'fast' one, \"A\""


@given(st.text(st.sampled_from("aß:/@#?%&=,;'\"“»<> \u200b\u200d\u202e\ufeff\n"), max_size=40))
def test_tidying_twice_changes_nothing(text: str) -> None:
    assert unwrap(unwrap(text)) == unwrap(text)
    assert tidy(tidy(text)) == tidy(text)


@pytest.mark.parametrize("name", ["a\u202eb", "a\x1b[31mb", "a\x85b", "\ud83d", "a" * MAX_LINK])
def test_a_tidied_link_can_be_kept_whatever_its_name_is(name: str) -> None:
    link = tidy(f"{LINK}#{name}")
    assert is_clean(link)
    assert len(link) <= MAX_LINK
    assert parse_link(link) == parse_link(f"{LINK}#{name}")


def test_a_dot_at_the_end_of_a_saved_link_is_not_taken_for_that_of_a_sentence() -> None:
    link = parse_link(f"{LINK}?path=/a...#")
    assert parse_link(tidy(format_link(link))) == link


def test_a_clean_link_is_not_changed() -> None:
    assert tidy(f"{LINK}#Ann%20and Ben") == f"{LINK}#Ann%20and Ben"


def test_a_list_may_hold_remarks_and_numbers_its_lines() -> None:
    text = f"""\ufeff# servers of spring
// ss://not-this-one
; ss://nor-this
<!-- ss://nor-that -->
<!DOCTYPE html>
<br/>

  “{LINK}#a”,\u00a0
hello
<{LINK}>
"""
    assert list(number_links(text)) == [(8, f"{LINK}#a"), (9, "hello"), (10, LINK)]
