"""The probe: one small HTTP request through a tunnel whose answer is known beforehand."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from circumvent.api.contracts import Tunnel
from circumvent.api.exchange import receive, send
from circumvent.api.streams import ByteStream
from circumvent.errors import ProbeError
from circumvent.memory import Account
from circumvent.wire.address import Destination

HTTP_PORT = 80
MAX_HEAD = 4096  # a 204 answer has no body and few header lines
_GOOD = b" 204"  # a captive portal or block page answers 200, 302 or 403


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """A web server that answers ``path`` with 204 No Content."""

    destination: Destination
    path: str

    @classmethod
    def parse(cls, url: str) -> ProbeTarget:
        """Read an ``http://`` URL that was checked by the configuration."""
        parts = urlsplit(url)
        destination = Destination(parts.hostname or "", parts.port or HTTP_PORT)
        return cls(destination, parts.path or "/")

    def request(self) -> bytes:
        """The request's bytes."""
        host = str(self.destination).removesuffix(f":{HTTP_PORT}")
        return f"GET {self.path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()


class Prober:
    """Probes tunnels; takes the next target each time, so that one bad target fools nobody."""

    def __init__(self, targets: Sequence[ProbeTarget]) -> None:
        self._targets = targets
        self._turn = 0

    @property
    def targets(self) -> int:
        """How many targets there are."""
        return len(self._targets)

    async def probe(self, tunnel: Tunnel, account: Account, seconds: float) -> float:
        """Round-trip time in seconds, from the request to the answer.

        Raises ProbeError when the answer is wrong or does not come in time, and whatever
        opening the stream raises.
        """
        target = self._targets[self._turn % len(self._targets)]
        self._turn += 1
        try:
            async with asyncio.timeout(seconds):
                stream = await tunnel.open(target.destination)
                try:
                    return await _ask(stream, account, target)
                finally:
                    stream.abort()
        except TimeoutError as error:
            message = f"no answer through the tunnel within {seconds:.1f} s"
            raise ProbeError(message, stage="probe") from error


async def _ask(stream: ByteStream, account: Account, target: ProbeTarget) -> float:
    clock = asyncio.get_running_loop().time
    asked = clock()
    await send(stream, account, target.request())
    answer = b""
    while b"\r\n" not in answer and len(answer) < MAX_HEAD:
        data = await receive(stream, account, MAX_HEAD)
        if not data:
            break
        answer += data
    status = answer.partition(b"\r\n")[0]
    if not (status.startswith(b"HTTP/1.") and status[8:12] == _GOOD):
        message = "the probe was not answered with 204: " + (
            "the tunnel was closed" if not answer else "somebody else answered"
        )
        raise ProbeError(message, stage="probe")
    return clock() - asked
