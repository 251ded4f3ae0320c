"""A zone of ``circumvent bundle zone`` in BIND and in Knot, asked by the DNS channel."""

from __future__ import annotations

import base64
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from circumvent.wire.bundle import MAX_BUNDLE
from tests.bench.contenders import own_files
from tests.e2e.world import operate, sign
from tests.peers.bind import bind
from tests.peers.certificates import Certificate
from tests.peers.knot import knot
from tests.peers.services import HOST

ZONE = "list.far.test"
# Passwords that do not compress, so that 200 links nearly fill a bundle: about 70 records.
FEW, MANY = 3, 200
PASSWORD = 160  # bytes


@contextmanager
def served_by_bind(folder: Path, certificate: Certificate, zone: str) -> Iterator[int]:
    with bind(folder, certificate, ZONE, zone) as server:
        yield server.port


@contextmanager
def served_by_knot(folder: Path, _: Certificate, zone: str) -> Iterator[int]:
    with knot(folder, ZONE, zone) as port:
        yield port


SERVERS = {"bind": served_by_bind, "knot": served_by_knot}


def links(count: int) -> list[str]:
    random_bytes = random.Random(count).randbytes
    passwords = (base64.urlsafe_b64encode(random_bytes(PASSWORD)).decode() for _ in range(count))
    return [f"trojan://{word}@192.0.2.{n}:443" for n, word in enumerate(passwords)]


@pytest.mark.parametrize("count", [FEW, MANY])
@pytest.mark.parametrize("server", SERVERS)
def test_name_servers_load_the_zone_and_clients_read_it(
    server: str, count: int, certificate: Certificate, tmp_path: Path
) -> None:
    operate("keygen", "--out", str(tmp_path))
    bundle = sign(tmp_path, tmp_path / "key", links(count), 1)
    zone = operate("zone", "--zone", ZONE, "--name-server", "ns.far.test", str(bundle))
    assert count == FEW or bundle.stat().st_size > MAX_BUNDLE // 2
    with SERVERS[server](tmp_path, certificate, zone) as port:
        source = f"dns:{ZONE}?resolver=udp://{HOST}:{port}&resolver=tcp://{HOST}:{port}"
        answer = discover(source, tmp_path / "key.pub", tmp_path)
    records = zone.count(" IN TXT ")
    print(f"{server}: {bundle.stat().st_size} bytes in {records} records, {answer['ms']} ms")
    assert answer["entries"] == links(count)


def discover(source: str, key: Path, folder: Path) -> dict[str, object]:
    command = ("discover", "--json", "--allow-private", "--source", source, "--key", str(key))
    done = subprocess.run(
        [sys.executable, "-m", "circumvent", *command],
        check=True,
        capture_output=True,
        env=own_files(folder),
        timeout=40,
    )
    answers: list[dict[str, object]] = json.loads(done.stdout)
    return answers[0]
