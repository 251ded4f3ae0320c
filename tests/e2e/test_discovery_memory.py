"""A hunt over all channels at once, beside three live tunnels, in 50 MB without swap.

Toolkits like this one are killed at such a moment: a second channel once doubled the memory of a
search within a second.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from tests.bench.contenders import Contender, started, started_origin
from tests.e2e.asking import await_tunnels, status
from tests.e2e.memory_group import MemoryFacts, memory_group
from tests.e2e.nodes import three_nodes
from tests.e2e.world import World, listeners_that_never_answer, world
from tests.peers.certificates import Certificate, make_certificate
from tests.peers.services import HOST, Endpoint

LIMIT = 50_000_000


def client(extra: Sequence[str], certificate: Certificate) -> Contender:
    """Our client with further links, trusting the test's authority."""

    def command(endpoints: Sequence[Endpoint], port: int, _home: Path, probe_url: str) -> list[str]:
        links = [*(endpoint.link for endpoint in endpoints), *extra]
        options = ["--allow-private", "--listen", f"{HOST}:{port}", "--probe-url", probe_url]
        trust = f"SSL_CERT_FILE={certificate.authority}"
        return ["env", trust, sys.executable, "-m", "circumvent", "run", *links, *options]

    return Contender("circumvent", command)


def peak(operated: World | None, folder: Path, certificate: Certificate) -> MemoryFacts:
    """Memory of three tunnels, and of a hunt beside them where a world is given."""
    folder.mkdir()
    with (
        listeners_that_never_answer(2) as silent,
        started_origin(folder) as origin,
        three_nodes(folder) as nodes,
        memory_group(LIMIT) as group,
    ):
        links = hunted(operated, silent) if operated else []
        contender = group.hold(client(links, certificate))
        endpoints = [node.endpoint for node in nodes]
        with started(contender, endpoints, folder, origin) as running:
            await_tunnels(running, len(nodes))
            if operated:
                running.process.await_that(
                    lambda: "server from fronted+https" in running.process.log,
                    "found a server behind the front",
                )
            memory, facts = status(running).memory, group.facts()
            print(f"\n{'with' if operated else 'without'} a hunt: {facts}\n{memory}")
            assert running.process.exit_code is None
    assert memory.high_water <= memory.budget
    return facts


def hunted(operated: World, silent: Sequence[int]) -> list[str]:
    """An invite whose mirror and whose resolvers never answer, so that all channels run at once."""
    resolvers = f"dns:list.far.test?resolver=tcp://{HOST}:{silent[0]}"
    mirror = f"https://{HOST}:{silent[1]}/bundle"
    return [operated.invite([resolvers, mirror, operated.sources["fronted"]])]


def test_a_hunt_fits_in_50_mb(tmp_path: Path) -> None:
    folder = tmp_path / "operator"
    folder.mkdir()
    certificate = make_certificate(folder)
    with world(folder, certificate, ["trojan://secret@127.0.0.1:9#unused"]) as operated:
        without = peak(None, tmp_path / "0", certificate)
        hunting = peak(operated, tmp_path / "1", certificate)
    print(f"the hunt costs {(hunting.peak - without.peak) / 1e6:.1f} MB at its peak")
    assert (without.kills, hunting.kills) == (0, 0)
    assert hunting.peak < LIMIT
