"""Runs the operator's page command by command, with real servers in place of its examples."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from circumvent.errors import Fault
from circumvent.wire import bundle, dsse, link_text
from tests.bench.contenders import own_files
from tests.peers.bind import bind
from tests.peers.certificates import SERVER_NAME, Certificate, make_certificate
from tests.peers.nginx import FILES, nginx
from tests.peers.services import HOST

PAGE = Path(__file__).parents[2] / "docs" / "operator.md"
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)$", re.MULTILINE)
LINKS = "trojan://one@192.0.2.1:443#One\ntrojan://two@192.0.2.2:443#Two\n"
MIRROR, FRONT, ZONE = "mirror.example.net", "front.example.com", "list.example.org"
# What a CDN says to a name that it does not know.
STRANGER = """
        location / { return 421; }
"""


def commands() -> list[str]:
    """All commands of the page except those of the new user."""
    blocks = "".join(BLOCK.findall(PAGE.read_text()))
    return [command for command in COMMAND.findall(blocks) if "run 'circumvent:" not in command]


class Desk:
    """A folder in which an operator types; names of the page become addresses of ours."""

    def __init__(self, folder: Path, certificate: Certificate, names: dict[str, str]) -> None:
        self._folder = folder
        self._names = names
        binaries = Path(sys.executable).parent
        self._environment = {
            **own_files(folder),
            "PATH": f"{binaries}:{os.environ['PATH']}",
            "SSL_CERT_FILE": str(certificate.authority),
            "CIRCUMVENT_ALLOW_PRIVATE": "1",
        }

    def type(self, command: str) -> str:
        """Run a command; raises CalledProcessError."""
        for name, address in self._names.items():
            command = command.replace(name, address)
        return subprocess.run(
            ["bash", "-euc", command],
            check=True,
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            text=True,
            timeout=60,
        ).stdout


def test_the_runbook_leads_to_three_live_channels(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    (tmp_path / "links.txt").write_text(LINKS)
    (tmp_path / "www").mkdir()
    files = FILES.format(root=tmp_path / "www")
    web_names = {SERVER_NAME: STRANGER, HOST: files, MIRROR: files}
    started = time.monotonic()
    with ExitStack() as servers:
        web = servers.enter_context(nginx(tmp_path, certificate, web_names))
        names = {f"{MIRROR}/": f"{HOST}:{web}/", f"{FRONT}/": f"{HOST}:{web}/"}
        desk = Desk(tmp_path, certificate, names)
        for command in commands():
            if command.startswith("circumvent bundle invite"):
                zone = (tmp_path / f"{ZONE}.zone").read_text()
                name_server = servers.enter_context(bind(tmp_path, certificate, ZONE, zone))
                names[f"dns:{ZONE}"] = f"dns:{ZONE}?resolver=udp://{HOST}:{name_server.port}"
            said = desk.type(command)
            if command.startswith("circumvent discover"):
                assert said.count(": ok, list 1 with 2 servers") == 3, said
                print(f"three channels after {time.monotonic() - started:.1f} s of machine time")
    assert "good: version 1, 2 entries" in desk.type(
        "circumvent bundle verify --trust anna/key.pub bert/key.pub two.bundle"
    )
    assert "good: version 3" in desk.type(
        "circumvent bundle verify --trust authority-2/key.pub --bucket friends/bucket"
        " friends.bundle"
    )


def test_the_page_names_the_limits_that_hold() -> None:
    page = PAGE.read_text()
    for meaning, limit in {
        "bundle, as a file": f"{bundle.MAX_BUNDLE // 1024} KiB",
        "bundle, unpacked": f"{bundle.MAX_PAYLOAD // 1024} KiB",
        "links": bundle.MAX_ENTRIES,
        "characters of a link": link_text.MAX_LINK,
        "sources": bundle.MAX_SOURCES,
        "keys of an authority": bundle.MAX_KEYS,
        "signatures": dsse.MAX_SIGNATURES,
        "clock that is behind": f"{bundle.MAX_SKEW // 3600} h",
    }.items():
        assert f"| {meaning} | {limit} |" in page


def test_the_page_explains_every_refusal_that_an_operator_can_fix() -> None:
    page = PAGE.read_text()
    theirs = {Fault.NOT_A_BUNDLE, Fault.TOO_LARGE, Fault.BROKEN}
    for fault in set(Fault) - theirs:
        assert re.split(r"[:(]", fault.value)[0].strip() in page
