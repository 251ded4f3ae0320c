"""Knot, as an operator runs it: one zone from a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.peers.process import Process, free_port

HOST = "127.0.0.1"
CONFIG = """
server:
    listen: {host}@{port}
    rundir: {folder}
    user: root
database:
    storage: {folder}
log:
  - target: stderr
    any: info
zone:
  - domain: {zone}
    file: {file}
    zonefile-sync: -1
    journal-content: none
"""


@contextmanager
def knot(folder: Path, zone: str, zone_text: str) -> Iterator[int]:
    """Serve a zone; the port."""
    port = free_port()
    file = folder / "knot.zone"
    file.write_text(zone_text)
    config = folder / "knot.conf"
    config.write_text(CONFIG.format(host=HOST, port=port, folder=folder, zone=zone, file=file))
    with Process(["knotd", "-c", str(config)], folder / "knot.log") as process:
        process.await_port(port)
        yield port
