"""Second part: three servers of others, a client over them, one dies while it is used."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.contenders import OURS, Running, own_files, started, started_origin
from tests.demo.telling import say, show
from tests.e2e.asking import await_tunnels
from tests.e2e.nodes import Node, busiest, three_nodes
from tests.peers import socks
from tests.peers.destinations import Destinations, pattern_digest

FILE = 8_000_000  # bytes
FETCHERS = 3  # so that each server has something to do
BEFORE, AFTER = 2.0, 4.0  # seconds of fetching around the kill
LOOK = 0.3  # seconds to find out which server carries most


@dataclass(slots=True)
class Fetching:
    """Fetches one file after another, as often as it can, until told to stop."""

    running: Running
    site: Destinations
    whole: list[float] = field(default_factory=list)  # when each fetch began that ended well
    cut: list[float] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)
    digest: str = pattern_digest(FILE)

    def run(self) -> None:
        """Fetch until ``done``."""
        while not self.done.is_set():
            began = time.monotonic()
            (self.whole if self.fetch() else self.cut).append(began)

    def fetch(self) -> bool:
        """Whether a file came whole and with the right SHA-256."""
        try:
            with socks.connect(
                self.running.through.proxy, "127.0.0.1", self.site.http_port
            ) as stream:
                return socks.download(stream, FILE) == self.digest
        except (OSError, socks.SocksError):
            return False


def fetching_outlives_a_server(folder: Path, site: Destinations) -> bool:
    """Play it; whether fetching went on after the kill."""
    with started_origin(folder) as origin, three_nodes(folder) as nodes:
        say(f"\nThree sing-box servers on this machine: {', '.join(map(title, nodes))}.")
        servers = [node.endpoint for node in nodes]
        say("$ circumvent run 'ss://…' 'trojan://…' 'vless://…'")
        with started(OURS, servers, folder, origin) as running:
            await_tunnels(running, len(nodes))
            say(f"Local proxy: 127.0.0.1:{running.through.proxy}. All three tunnels are up:")
            files = own_files(running.home)
            show("status", files)
            goes_on = fetch_and_kill(Fetching(running, site), nodes)
            show("status", files)
            show("why", files)
    return goes_on


def fetch_and_kill(fetching: Fetching, nodes: Sequence[Node]) -> bool:
    """Kill the busiest server while files are fetched; whether fetching went on."""
    say(f"\nFetching files of {FILE // 1_000_000} MB, {FETCHERS} at a time …")
    threads = [threading.Thread(target=fetching.run) for _ in range(FETCHERS)]
    for thread in threads:
        thread.start()
    time.sleep(BEFORE)
    victim = busiest(nodes, LOOK)
    victim.process.kill()
    killed = time.monotonic()
    say(f"Killed the busiest server, {title(victim)}, in the middle of it.")
    time.sleep(AFTER)
    fetching.done.set()
    for thread in threads:
        thread.join()
    return tell(fetching, killed)


def tell(fetching: Fetching, killed: float) -> bool:
    """Say what came of the files; whether all that began after the kill came whole."""
    after = sorted(began for began in fetching.whole if began > killed)
    failed = [began for began in fetching.cut if began > killed]
    before = len(fetching.whole) - len(after)
    say(f"Begun before the kill: {before} files whole, all with the right SHA-256,")
    say(f"  and {len(fetching.cut) - len(failed)} cut with a reset: they were on the dead server.")
    say(f"Begun after the kill:  {len(after)} files whole, {len(failed)} failed.")
    if after:
        say(f"  The first of them began {(after[0] - killed) * 1000:.0f} ms after the kill.\n")
    return bool(after) and not failed


def title(node: Node) -> str:
    """A server as the demo names it."""
    endpoint = node.endpoint
    return f"{endpoint.service.transport} over {endpoint.service.over} on port {endpoint.port}"
