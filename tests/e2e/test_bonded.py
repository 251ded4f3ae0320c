"""A censor kills carriers in mid-download, and the page does not notice; no peer can do this."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.contenders import Running, started
from tests.e2e.asking import status
from tests.e2e.bonded import bonded, client
from tests.e2e.long_visit import Visit, long_site, visit
from tests.peers.certificates import make_certificate

MB = 1_000_000
RATE = 20 * MB  # bytes per second on each connection: fast, and slow enough to be broken often


def visit_over_a_session(folder: Path, size: int, limit: float) -> Visit:
    certificate = make_certificate(folder)
    with (
        long_site(folder, size) as site,
        bonded(folder, certificate, RATE) as relay,
        started(client(relay.link, certificate), [], folder, site[1]) as running,
    ):
        kinds = await_carriers(running)
        seen = visit(folder, site, running.through.proxy, lambda: relay.connections, limit)
        print(f"\nover {', '.join(sorted(kinds))}: {seen}")
        print(*status(running).tunnels, sep="\n")
        assert kinds == {"tls", "websocket", "fronted"}
    return seen


def await_carriers(running: Running) -> set[str]:
    """Wait until three carriers are up; returns their kinds."""

    def kinds() -> set[str]:
        return {carrier.kind for tunnel in status(running).tunnels for carrier in tunnel.carriers}

    running.process.await_that(lambda: len(kinds()) > 2, "held carriers of three kinds")
    return kinds()


@pytest.mark.timeout(120)
def test_a_page_does_not_notice_that_its_carriers_are_killed(tmp_path: Path) -> None:
    seen = visit_over_a_session(tmp_path, 100 * MB, 60)
    assert seen.report["bytes"] == 100 * MB
    assert seen.faults == []
    assert (seen.report["wsOpens"], seen.report["sseOpens"]) == (1, 1)
    assert len(seen.broken) >= 2


@pytest.mark.prove
@pytest.mark.timeout(300)
def test_half_a_gigabyte_arrives_whole_beside_a_websocket_and_an_event_stream(
    tmp_path: Path,
) -> None:
    seen = visit_over_a_session(tmp_path, 500 * MB, 200)
    assert seen.report["bytes"] == 500 * MB
    assert seen.faults == []
    assert (seen.report["wsOpens"], seen.report["sseOpens"]) == (1, 1)
    assert len(seen.broken) >= 5
