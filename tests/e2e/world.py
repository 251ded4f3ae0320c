"""An operator's servers, made by the operator's own commands: a zone, a mirror, a front, a file.

A source is alive (BIND and nginx serve it) or dead (nothing listens there).
"""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.peers.bind import Bind, bind
from tests.peers.certificates import SERVER_NAME, Certificate
from tests.peers.nginx import FILES, nginx
from tests.peers.process import free_port
from tests.peers.services import HOST

ZONE = "list.far.test"
HIDDEN = "hidden.far.test"
CHANNELS = ("dns", "https", "fronted", "file", "subscription")


@dataclass(frozen=True, slots=True)
class World:
    """Where everything is; ``key`` is the authority's public key file, ``names`` the server."""

    key: Path
    names: Bind
    sources: dict[str, str]
    dead: dict[str, str]

    def links(self, alive: Sequence[str], known: Sequence[str] = CHANNELS) -> list[str]:
        """The links that a new user is given: an invite, and a subscription if it is known."""
        chosen = {name: self.sources[name] if name in alive else self.dead[name] for name in known}
        subscription = chosen.pop("subscription", None)
        given = [self.invite(list(chosen.values()))] if chosen else []
        return given + ([subscription] if subscription else [])

    def invite(self, sources: Sequence[str]) -> str:
        """An invite to the authority that names these sources."""
        options = [f"--source={source}" for source in sources]
        return operate("invite", "--trust", str(self.key), *options).strip()


def operate(*arguments: str) -> str:
    """Run ``circumvent bundle`` and return what it prints."""
    command = [sys.executable, "-m", "circumvent", "bundle", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout


def sign(folder: Path, key: Path, links: Sequence[str], version: int) -> Path:
    """A signed bundle of ``links``."""
    listed = folder / f"links-{version}"
    listed.write_text("\n".join(links))
    bundle = folder / f"bundle-{version}"
    numbers = ["--version", str(version), "--days", "9"]
    operate("sign", "--key", str(key), "--links", str(listed), *numbers, "-o", str(bundle))
    return bundle


@contextmanager
def world(folder: Path, certificate: Certificate, links: Sequence[str]) -> Iterator[World]:
    """Run everything; every channel brings ``links``."""
    keys, site, hidden = folder / "keys", folder / "site", folder / "hidden"
    operate("keygen", "--out", str(keys))
    bundle = sign(folder, keys / "key", links, int(time.time()))
    for place in (site, hidden):
        place.mkdir()
    (site / "bundle").write_bytes(bundle.read_bytes())
    (site / "links").write_text("\n".join(links))
    (hidden / "bundle").write_bytes(bundle.read_bytes())
    zone = operate("zone", "--zone", ZONE, "--name-server", "ns.far.test", str(bundle))
    places = {SERVER_NAME: FILES.format(root=site), HIDDEN: FILES.format(root=hidden)}
    with (
        bind(folder, certificate, ZONE, zone) as names,
        nginx(folder, certificate, places) as web,
    ):
        yield World(
            keys / "key.pub",
            names,
            _sources(names.port, web, bundle),
            _sources(free_port(), free_port(), folder / "nothing"),
        )


def _sources(dns: int, web: int, file: Path) -> dict[str, str]:
    resolvers = "&".join(f"resolver={way}://{HOST}:{dns}" for way in ("udp", "tcp"))
    return {
        "dns": f"dns:{ZONE}?{resolvers}",
        "https": f"https://{HOST}:{web}/bundle",
        "fronted": f"fronted+https://{HOST}:{web}/bundle?host={HIDDEN}",
        "file": f"file:{file}",
        "subscription": f"sub+https://{HOST}:{web}/links",
    }


@contextmanager
def listeners_that_never_answer(count: int) -> Iterator[list[int]]:
    """Ports that accept connections and never answer."""
    sockets = [socket.create_server((HOST, 0)) for _ in range(count)]
    try:
        yield [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
