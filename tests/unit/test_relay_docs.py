"""The relay accepts the files in the documents, and they explain every key."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from circumvent.relay.config import RelayConfig, UsersFile

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```toml (?P<name>\S+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
KINDS = {"relay.toml": RelayConfig, "users.toml": UsersFile}
EXAMPLES = [
    pytest.param(match["name"], match["text"], id=f"{page.name}: {match['name']}")
    for page in sorted(DOCS.glob("*.md"))
    for match in BLOCK.finditer(page.read_text())
    if match["name"] in KINDS
]


@pytest.mark.parametrize(("name", "text"), EXAMPLES)
def test_examples_are_accepted(name: str, text: str) -> None:
    given = {"listen": "127.0.0.1:1", "public": "x.test:1", "knock_keys": ["A" * 22]}
    table = tomllib.loads(text)
    msgspec.convert({**given, **table} if name == "relay.toml" else table, KINDS[name])


def keys_of(kind: type) -> list[str]:
    """All keys, those of sections included."""
    found = []
    for field in msgspec.structs.fields(kind):
        found.append(field.name)
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            found += keys_of(field.type)
    return found


def test_every_key_is_explained() -> None:
    (text,) = [
        match["text"]
        for match in BLOCK.finditer((DOCS / "relay.md").read_text())
        if match["name"] == "relay.toml"
    ]
    assert [
        key for key in keys_of(RelayConfig) if not re.search(rf"^(\[?){key}\b", text, re.MULTILINE)
    ] == []
