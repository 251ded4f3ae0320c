"""Invites: read strictly, written so that they are read the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circumvent.errors import LinkError
from circumvent.links.invite import Invite, format_invite, parse_invite
from circumvent.wire.bundle import Trust

KEY = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE"
GOOD = f"circumvent://invite?trust={KEY}&source=dns:b.test"

keys = st.binary(min_size=32, max_size=32)
words = st.text("abcdefghijklmnopqrstuvwxyz0123456789./:?=&%#@-_", min_size=1, max_size=60)
trusts = st.lists(keys, min_size=1, max_size=4, unique=True).flatmap(
    lambda some: st.builds(Trust, st.just(tuple(some)), st.integers(1, len(some)))
)
# What stands behind a '#' is no part of a source.
sources = words.filter(lambda text: "#" not in text)
invites = st.builds(
    Invite,
    trusts,
    st.lists(sources, min_size=1, max_size=4).map(tuple),
    st.none() | keys,
    st.text("abc äöü", max_size=9).map(str.strip),
)


@given(invites)
def test_an_invite_survives_being_written_and_read(invite: Invite) -> None:
    assert parse_invite(format_invite(invite)) == invite


def test_the_simplest_invite() -> None:
    invite = parse_invite(f" {GOOD}#Anna \n")
    assert invite == Invite(Trust((b"\x01" * 32,)), ("dns:b.test",), None, "Anna")


@pytest.mark.parametrize(
    ("link", "part"),
    [
        ("circumvent://invite", "invite: starts with"),
        ("circumvent://other?trust=" + KEY, "invite: starts with"),
        (GOOD + "&colour=red", "does not know; update"),
        (GOOD + f"&trust={KEY}", "trust: is given twice"),
        (GOOD.replace(KEY, KEY[:-2]), "trust: is not valid base64"),
        (GOOD.replace(KEY, KEY[:-1] + "F"), "trust: is not a key"),
        (GOOD.replace(KEY, f"{KEY},{KEY}"), "trust: an authority has"),
        (GOOD.replace(KEY, ""), "trust: an authority has"),
        (GOOD + "&threshold=2", "trust: the threshold is 1 to 1"),
        (GOOD + "&threshold=two", "threshold: is not a number"),
        (GOOD + "&bucket=AQ", "bucket: is not a key"),
        (f"circumvent://invite?trust={KEY}", "source: an invite names"),
        (GOOD + "&source=%FF", "source: its percent-encoding"),
        (GOOD + "&source=", "source: is empty"),
    ],
)
def test_what_is_wrong_is_named(link: str, part: str) -> None:
    with pytest.raises(LinkError) as caught:
        parse_invite(link)
    assert part in str(caught.value)
    assert KEY[:8] not in str(caught.value)


@given(st.text(max_size=80) | words.map(lambda text: f"circumvent://invite?{text}"))
def test_rubbish_is_one_clear_error(text: str) -> None:
    with pytest.raises(LinkError):
        parse_invite(text)


def test_the_secret_is_not_shown() -> None:
    assert "bucket" not in repr(parse_invite(GOOD + f"&bucket={KEY}"))
