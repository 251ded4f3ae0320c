"""Candidates: what link text is parsed to, and which are the same server."""

from __future__ import annotations

import pytest

from circumvent.cli.links import transports_of
from circumvent.errors import LinkError, UnsupportedError
from circumvent.plugins import load_plugins
from circumvent.tunnels.candidate import Candidate, distinct, parse_candidate

SECRET = "correcthorsebattery"
TRANSPORTS = transports_of(load_plugins())


def parsed(text: str, *, is_learnt: bool = False) -> Candidate:
    return parse_candidate(text, TRANSPORTS, is_learnt=is_learnt)


def test_a_link_names_its_transport_in_either_case() -> None:
    candidate = parsed(f"Trojan://{SECRET}@ben.test:443#Ben")
    assert candidate.transport.name == "trojan"
    assert candidate.entry.name == "Ben"


def test_what_stands_around_a_pasted_link_is_left_out() -> None:
    link = f"trojan://{SECRET}@ben.test:443"
    assert parsed(f"1. “{link}”,").id == parsed(link).id


def test_an_unknown_scheme_is_told_with_the_known_ones() -> None:
    with pytest.raises(UnsupportedError, match=r"^vmess:// is not supported; .* relay://, ss://"):
        parsed("vmess://abc")


@pytest.mark.parametrize("text", [SECRET, f"{SECRET}://x", f"//{SECRET}"])
def test_a_misplaced_secret_is_not_repeated(text: str) -> None:
    with pytest.raises(LinkError) as caught:
        parsed(text)
    assert SECRET not in str(caught.value)


def test_of_links_to_one_server_the_first_counts() -> None:
    """So a list cannot replace what the user named."""
    link = f"trojan://{SECRET}@ben.test:443"
    named, learnt = parsed(f"{link}#Ben"), parsed(f"{link}#Bob", is_learnt=True)
    other = parsed(f"trojan://{SECRET}@ann.test:443", is_learnt=True)
    assert distinct([named, learnt, other]) == [named, other]
