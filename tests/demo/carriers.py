"""First part: one download over a relay, while its carriers are reset and frozen."""

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from tests.demo.telling import say, show
from tests.e2e.long_visit import breaking
from tests.peers import socks
from tests.peers.client import RunningClient, running_client
from tests.peers.destinations import Destinations, pattern_digest
from tests.peers.relay import RunningRelay, make_relay, running_relay
from tests.peers.tcp_path import TcpPath, tcp_path

MB = 1_000_000
FILE = 300 * MB
RATE = 15 * MB  # bytes per second on each carrier: slow enough to be broken often
CARRIERS = 3
KINDS = ("tls", "websocket", "fronted")
LEAST_BROKEN = 3
LONGEST_GAP = 3.0  # seconds; browsers and people wait longer
PROGRESS = 2.0  # seconds


@dataclass(slots=True)
class Download:
    """One file over one connection; what came of it."""

    size: int = 0
    longest_gap: float = 0
    digest: str = ""
    trouble: str = ""
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Since the request."""
        return time.monotonic() - self.began


def a_download_outlives_its_carriers(folder: Path, site: Destinations) -> bool:
    """Play it; whether the file came whole, and without a long pause."""
    with relay(folder) as running, tcp_path(running.port, RATE) as way:
        say("$ circumvent run 'relay://…'")
        link = by_way_of(running.link, way.port)
        with running_client(folder / "client", [link], site.probe_url) as client:
            kinds = ", ".join(sorted(each.kind for each in client.await_carriers(CARRIERS)))
            say(f"Local proxy: 127.0.0.1:{client.port}. One session, several carriers: {kinds}.")
            good = download_and_break(client, way, site)
            show("status", client.environment)
            show(f"relay status {running.directory}", client.environment)
    return good


def by_way_of(link: str, port: int) -> str:
    """The link with another port, and with all carriers."""
    parts = urlsplit(link)
    query = [each for each in parts.query.split("&") if not each.startswith("carriers=")]
    return urlunsplit(
        parts._replace(
            netloc=f"{parts.netloc.rpartition(':')[0]}:{port}",
            query="&".join([*query, f"carriers={','.join(KINDS)}"]),
        )
    )


@contextmanager
def relay(folder: Path) -> Iterator[RunningRelay]:
    """A relay as its operator makes it."""
    directory = folder / "relay"
    say("A relay of our own, which to strangers is a web site:")
    say("$ circumvent relay init DIR --listen 127.0.0.1:… --allow-private")
    port = make_relay(directory)
    say("$ circumvent relay run DIR\n$ circumvent relay invite DIR")
    with running_relay(directory, port) as running:
        yield running


def download_and_break(client: RunningClient, way: TcpPath, site: Destinations) -> bool:
    """Fetch the file while a carrier is hurt every second; whether nobody would have noticed."""
    say(f"\nFetching {FILE // MB} MB through it, and breaking a carrier every second …")
    download = Download()
    with breaking(lambda: [(way, passing) for passing in tuple(way.connections)]) as broken:
        fetch(client.port, site, download, broken)
    return tell(download, broken)


def fetch(proxy: int, site: Destinations, download: Download, broken: Sequence[str]) -> None:
    """One request over one connection; errors end it."""
    digest, last = hashlib.sha256(), download.began
    told = 0.0
    try:
        with (
            socks.connect(proxy, "127.0.0.1", site.http_port) as connection,
            socks.get(connection, f"/bytes/{FILE}") as answer,
        ):
            while piece := answer.read1(socks.CHUNK):
                now = time.monotonic()
                download.longest_gap, last = max(download.longest_gap, now - last), now
                download.size += len(piece)
                digest.update(piece)
                if download.seconds > told + PROGRESS:
                    told = download.seconds
                    report(download, broken)
    except (OSError, socks.SocksError) as error:
        download.trouble = f"{type(error).__name__}: {error}"
    download.digest = digest.hexdigest()


def report(download: Download, broken: Sequence[str]) -> None:
    """How far it is."""
    say(f"  {download.seconds:4.1f} s  {download.size // MB:4} MB  {hurt(broken)}")


def hurt(broken: Sequence[str]) -> str:
    """How many carriers were hurt, and how."""
    return f"{broken.count('reset')} carriers reset, {broken.count('freeze')} frozen"


def tell(download: Download, broken: Sequence[str]) -> bool:
    """Say what came of it; whether it is what we promise."""
    whole = download.digest == pattern_digest(FILE)
    say(f"{download.size / MB:.0f} MB in {download.seconds:.1f} s; meanwhile {hurt(broken)}.")
    say(f"  SHA-256 {'equal' if whole else 'NOT EQUAL'}.")
    say(f"  Reconnects: {download.trouble or 'none, it was one request on one connection'}.")
    say(f"  The longest time in which nothing came: {download.longest_gap * 1000:.0f} ms.\n")
    enough = len(broken) >= LEAST_BROKEN
    return whole and not download.trouble and enough and download.longest_gap <= LONGEST_GAP
