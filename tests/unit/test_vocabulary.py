"""Retired words stay out: each had a word of the field, or stood for several things."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SUFFIXES = {".py", ".md", ".toml"}
INSTEAD = {  # docs/glossary.md
    "bury|buried|graves?|loneliness": "backoff",
    "doorkeepers?": "knock verifier",
    "farewells?": "last words of a protocol by their name: close_notify, FIN, CLOSE",
    "front ?doors?": "inbound",
    "guests?": "visitor, relay connection",
    "houses?": "inbound context, relay context",
    "legs?": "carrier slot",
    "nuisances?": "useless frames",
    "outlets?": "egress dialer",
    "passages?": "cover proxy",
    "rosters?": "carrier routes",
    "shelf|shelves": "origin table, registry",
}
RETIRED = re.compile(
    "|".join(rf"(?<![A-Za-z])(?:{word})(?![a-z])" for word in INSTEAD), re.IGNORECASE
)

# Says no to most files, and much sooner: a search for plain text skips to where one may begin.
STARTS = re.compile("|".join(INSTEAD))


def pages() -> Iterator[Path]:
    """What people read: code, tests, documents."""
    for name in ("circumvent", "plugins", "tests", "docs", "config"):
        folder = ROOT / name
        yield from (path for path in folder.rglob("*") if path.suffix in SUFFIXES)
    yield from ROOT.glob("*.md")


def lines_with_retired_words(path: Path) -> Iterator[str]:
    text = path.read_text(encoding="utf-8")
    if not STARTS.search(text.lower()):
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if found := RETIRED.search(line):
            yield f"{path.relative_to(ROOT)}:{number}: {found[0]}"


def test_no_retired_word_comes_back() -> None:
    here = Path(__file__)
    found = [each for path in pages() if path != here for each in lines_with_retired_words(path)]
    assert found == []


def test_a_retired_word_would_be_seen() -> None:
    for written in ("class FrontDoor:", "self._house = house", "the Doorkeeper", "one LEG of it"):
        assert RETIRED.search(written)
    for written in ("a legend", "warehouse", "greenhouse_gas", "elegant"):
        assert not RETIRED.search(written)
