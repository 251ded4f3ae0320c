"""Captures what a real browser says first, on loopback."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

from circumvent.wire.tls13.codes import RECORD_HEADER
from tests.hellos.form import parse_hello
from tests.peers.browser import ALONE, QUIET
from tests.peers.certificates import Certificate, make_certificate
from tests.peers.process import Process, program

HOST, NAME = "127.0.0.1", "localhost"
TIMEOUT = 60.0  # seconds; it takes three
ROUNDS = 24  # enough for one of four lengths to be missed once in three hundred times
RESUMED = 3  # so few because browsers wait longer and longer after WebSockets that failed
PAGE = f"""<script type=module>
const closed = socket => new Promise(done => {{ socket.onclose = socket.onerror = done }})
const visit = port => fetch(`https://{NAME}:${{port}}/`, {{mode: 'no-cors'}}).catch(() => 0)
for (let round = 0; round < {ROUNDS}; round++) await visit(location.port)
for (let round = 0; round < {RESUMED}; round++) {{
  await visit(TICKETS)
  await closed(new WebSocket(`wss://{NAME}:SOCKETS/`))
}}
fetch('/done')
</script>"""
ANSWER = (
    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nCache-Control: no-store\r\n"
    "Connection: close\r\nContent-Length: {size}\r\n\r\n{body}"
)


def major(version: str) -> int:
    """The number that browsers count up every few weeks."""
    found = re.search(r"\d+", version)
    assert found is not None, f"{version} has no number"
    return int(found[0])


@dataclass(slots=True)
class Captured:
    """The ClientHellos of one browser, each in its record, in the order in which they came."""

    version: str
    websocket_alpn: tuple[str, ...] | None
    pages: list[bytes] = field(default_factory=list)
    sockets: list[bytes] = field(default_factory=list)

    @property
    def major(self) -> int:
        return major(self.version)

    @property
    def uses(self) -> Iterator[tuple[str, tuple[str, ...] | None, list[bytes]]]:
        """For what, with which ALPN if not the browser's usual one, and the hellos."""
        for use, alpn, records in (
            ("page", None, self.pages),
            ("WebSocket", self.websocket_alpn, self.sockets),
        ):
            for resumed in (False, True):
                same = [each for each in records if parse_hello(each).is_resumed is resumed]
                yield (f"{use}, resumed" if resumed else use), alpn, same


@dataclass(frozen=True, slots=True)
class Visit:
    """A page of ours to open, on the first port, and what it leads to, on the others."""

    folder: Path
    ports: tuple[int, ...]
    certificate: Certificate

    @property
    def profile(self) -> Path:
        return self.folder / "profile"

    @property
    def url(self) -> str:
        return f"http://{NAME}:{self.ports[0]}/"


@dataclass(frozen=True, slots=True)
class Browser:
    """How to run a browser, and what it offers for WebSockets if not what it usually does."""

    program: str
    command: Callable[[Visit], list[str]]
    websocket_alpn: tuple[str, ...] | None


_SHA256 = "OID.2.16.840.1.101.3.4.2.1"
# Firefox waits longer and longer before it asks a WebSocket that failed.
_NO_PAUSES = 'user_pref("network.websocket.delay-failed-reconnects", false);'


def _chromium(visit: Visit) -> list[str]:
    ours = ("--no-proxy-server", "--ignore-certificate-errors", "--remote-debugging-port=0")
    profile = f"--user-data-dir={visit.profile}"
    return [*ALONE, "chromium", *QUIET, *ours, profile, visit.url]


def _firefox(visit: Visit) -> list[str]:
    visit.profile.mkdir()
    (visit.profile / "user.js").write_text(_NO_PAUSES)
    digest = ":".join(re.findall("..", visit.certificate.sha256.upper()))
    (visit.profile / "cert_override.txt").write_text(
        "".join(f"{NAME}:{port}:\t{_SHA256}\t{digest}\t\n" for port in visit.ports)
    )
    home, profile = f"HOME={visit.folder}", str(visit.profile)
    return [*ALONE, "env", home, "firefox-esr", "--headless", "--profile", profile, visit.url]


BROWSERS = {
    "chrome": Browser("chromium", _chromium, websocket_alpn=("http/1.1",)),
    "firefox": Browser("firefox-esr", _firefox, websocket_alpn=None),
}


def capture(browser: Browser) -> Captured:
    """Run the browser on pages of ours; raises PeerError when it is missing or hangs."""
    asked = [program(browser.program), "--version"]
    version = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=TIMEOUT)
    captured = Captured(version.stdout.strip(), browser.websocket_alpn)
    done = Event()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        folder = Path(place)
        certificate = make_certificate(folder, NAME)
        with ExitStack() as stack:

            def listen(seen: list[bytes], page: str = "", tickets: int = 2) -> int:
                listening = _listening(certificate, seen, page, tickets, done)
                return stack.enter_context(listening)

            ports = listen(captured.pages), listen(captured.sockets)
            page = PAGE.replace("TICKETS", str(ports[0])).replace("SOCKETS", str(ports[1]))
            first = listen(captured.pages, page, tickets=0)
            command = browser.command(Visit(folder, (first, *ports), certificate))
            process = stack.enter_context(Process(command, folder / "log"))
            process.await_that(done.is_set, "opened all pages", TIMEOUT)
    return captured


@contextmanager
def _listening(
    certificate: Certificate, seen: list[bytes], page: str, tickets: int, done: Event
) -> Iterator[int]:
    """Plain HTTP for the page, and TLS for what it asks; the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.chain, certificate.key)
    context.set_alpn_protocols(["http/1.1"])
    context.num_tickets = tickets

    def accept(listener: socket.socket) -> None:
        with suppress(OSError):  # closed
            while True:
                sock, _ = listener.accept()
                Thread(target=serve, args=(sock,), daemon=True).start()

    def serve(sock: socket.socket) -> None:
        with suppress(OSError), sock:  # the browser goes when it likes
            first = _first_record(sock)
            if first.startswith(b"\x16"):
                seen.append(first)
                with context.wrap_socket(sock, server_side=True) as tls:
                    _answer(tls, "")
            elif _answer(sock, page).startswith(b"GET /done "):
                done.set()

    with socket.create_server((HOST, 0)) as listener:
        Thread(target=accept, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1]


def _first_record(sock: socket.socket) -> bytes:
    """The whole first record, which stays in the socket; what is no handshake need not be whole."""
    whole = socket.MSG_PEEK | socket.MSG_WAITALL
    head = sock.recv(RECORD_HEADER, whole)
    if not head.startswith(b"\x16"):
        return head
    return sock.recv(RECORD_HEADER + int.from_bytes(head[3:5]), whole)


def _answer(sock: socket.socket, body: str) -> bytes:
    asked = sock.recv(1 << 16)
    sock.sendall(ANSWER.format(size=len(body), body=body).encode())
    return asked
