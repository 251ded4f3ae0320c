"""Pasted links: what stands around them, and what their names hold, is no part of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circumvent.wire.links import MAX_LINK, is_clean, parse_link
from circumvent.wire.pasted import number_links, tidy, unwrap

LINK = "ss://YWVzLTEyOC1nY206cw@192.0.2.7:8388"


@pytest.mark.parametrize("tail", ["", "#Ann's “best” one", "?type=tcp#a"])
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
def test_what_stands_around_a_link_goes(before: str, after: str, tail: str) -> None:
    assert unwrap(before + LINK + tail + after) == LINK + tail


@pytest.mark.parametrize("after", [",", ";", ", ", "\u3001"])
def test_what_separates_links_in_a_list_goes(after: str) -> None:
    assert unwrap(LINK + after) == LINK


def test_what_nobody_sees_within_a_link_goes_too() -> None:
    cut = "\u200b".join((LINK[:10], LINK[10:20], LINK[20:]))
    assert unwrap(f"{cut}\u200f #a") == f"{LINK}#a"


def test_a_name_keeps_its_own_quotes() -> None:
    assert unwrap(f"{LINK}#the 'fast' one, \"A\"") == f"{LINK}#the 'fast' one, \"A\""


@given(st.text(st.sampled_from("aß:/@#?%&=,;'\"“»<> \u200b\u200d\u202e\ufeff\n"), max_size=40))
def test_what_was_tidied_stays_as_it_is(text: str) -> None:
    assert unwrap(unwrap(text)) == unwrap(text)
    assert tidy(tidy(text)) == tidy(text)


@pytest.mark.parametrize("name", ["a\u202eb", "a\x1b[31mb", "a\x85b", "\ud83d", "a" * MAX_LINK])
def test_a_tidied_link_can_be_kept_whatever_its_name_is(name: str) -> None:
    link = tidy(f"{LINK}#{name}")
    assert is_clean(link)
    assert len(link) <= MAX_LINK
    assert parse_link(link) == parse_link(f"{LINK}#{name}")


def test_a_link_without_need_is_not_touched() -> None:
    assert tidy(f"{LINK}#Ann%20and Ben") == f"{LINK}#Ann%20and Ben"


def test_a_list_may_hold_remarks_and_numbers_its_lines() -> None:
    text = f"""\ufeff# servers of spring
// ss://not-this-one
<!DOCTYPE html>
<br/>

  “{LINK}#a”,\u00a0
hello
<{LINK}>
"""
    assert list(number_links(text)) == [(6, f"{LINK}#a"), (7, "hello"), (8, LINK)]
