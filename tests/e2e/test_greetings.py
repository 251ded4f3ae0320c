"""Whatever leaves a client in TLS begins with a browser's ClientHello, or ``status`` names it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from circumvent.wire.tls13.browsers import TEMPLATES
from tests.e2e.greetings import DIRECT, FRONTED, OLD, Seen
from tests.hellos.form import ja4, parse_hello
from tests.hellos.templates import ours_like
from tests.peers.certificates import SERVER_NAME
from tests.peers.destinations import ROOT
from tests.peers.hosts import hosts

PATIENCE = 240.0  # seconds: it hangs
CHROME = TEMPLATES["chrome"]
PAGE, WEBSOCKET, NOTHING = None, ("http/1.1",), ()
# What a browser would offer for each: only name servers are asked as no browser does.
OFFERS = {
    "trojan": PAGE,
    OLD: PAGE,
    "vless": WEBSOCKET,
    DIRECT: WEBSOCKET,
    FRONTED: WEBSOCKET,
    "channels": WEBSOCKET,
    "DNS": NOTHING,
}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    folder = tmp_path_factory.mktemp("greetings")
    with hosts(["alone"], folder) as (alone,):
        command = alone.inside([sys.executable, "-m", "tests.e2e.greetings", str(folder)])
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, cwd=ROOT, check=False
        )
    assert done.returncode == 0, done.stderr
    return Seen(**json.loads(done.stdout))


def is_chromes(name: str, record: bytes) -> bool:
    return ja4(record) == ja4(ours_like(record, CHROME, OFFERS[name]))


def records(seen: Seen) -> Iterator[tuple[str, bytes]]:
    """The first record of each connection to a server that speaks TLS."""
    for name, text in seen.greetings:
        first = bytes.fromhex(text)
        yield name, first[: 5 + int.from_bytes(first[3:5])]


def test_every_greeting_is_chromes(seen: Seen) -> None:
    greeted = [(name, record) for name, record in records(seen) if name != OLD]
    assert {name for name, _ in greeted} == set(OFFERS) - {OLD}
    assert [(name, ja4(record)) for name, record in greeted if not is_chromes(name, record)] == []


def test_tickets_are_among_them(seen: Seen) -> None:
    assert any(parse_hello(record).is_resumed for name, record in records(seen) if name == "trojan")


def test_nothing_else_is_said_to_anybody(seen: Seen) -> None:
    assert seen.others == []


def test_a_server_without_tls13_gets_another_greeting_and_status_names_it(seen: Seen) -> None:
    greeted = [record for name, record in records(seen) if name == OLD]
    assert is_chromes(OLD, greeted[0])
    assert not is_chromes(OLD, greeted[-1])
    (warning,) = seen.old_warnings
    assert warning.startswith(f"{SERVER_NAME} speaks no TLS 1.3: OpenSSL speaks with it")
    assert seen.warnings == []
