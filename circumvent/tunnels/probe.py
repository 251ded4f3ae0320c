"""The probe: one small HTTP request through a tunnel whose answer is known beforehand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from circumvent.api.contracts import Tunnel
from circumvent.api.exchange import receive, send
from circumvent.api.streams import ByteStream
from circumvent.errors import DestinationError, ProbeError
from circumvent.memory import Account
from circumvent.net.stagger import first_success
from circumvent.wire.address import Destination

HTTP_PORT = 80
MAX_HEAD = 4096  # a 204 answer has no body and few header lines
TARGETS_AT_ONCE = 2  # one target that is down must not condemn a tunnel
NEXT_TARGET_AFTER = 0.25  # seconds; a healthy target has mostly answered by then
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
    """Probes tunnels; begins with another target each time."""

    def __init__(self, targets: Sequence[ProbeTarget]) -> None:
        self._targets = targets
        self._turn = 0

    async def probe(
        self, tunnel: Tunnel, account: Account, seconds: float, *, is_new: bool = False
    ) -> float:
        """Round-trip time in seconds, from a request to its answer.

        The server of a tunnel that ``is_new`` may be blocked, and who greets it is counted: there
        the second target has to wait until a stream to the first is open.

        Holds up to ``TARGETS_AT_ONCE`` streams, which the caller has charged. Raises ProbeError
        when the answer is wrong or does not come in time, and whatever opening a stream raises.
        """
        targets = self._next_targets()
        try:
            async with asyncio.timeout(seconds):
                first = await _open(tunnel, targets[0]) if is_new else None
                return await first_success(
                    [
                        _probe(tunnel, account, target, first if target is targets[0] else None)
                        for target in targets
                    ],
                    NEXT_TARGET_AFTER,
                    drop=lambda _: None,
                )
        except TimeoutError as error:
            message = f"no answer through the tunnel within {seconds:.1f} s"
            raise ProbeError(message, stage="probe") from error

    def _next_targets(self) -> list[ProbeTarget]:
        first = self._turn
        self._turn += 1
        count = min(TARGETS_AT_ONCE, len(self._targets))
        return [self._targets[(first + i) % len(self._targets)] for i in range(count)]


async def _open(tunnel: Tunnel, target: ProbeTarget) -> ByteStream | None:
    """A stream; None where the server was reached, but not the target."""
    try:
        return await tunnel.open(target.destination)
    except DestinationError:
        return None


async def _probe(
    tunnel: Tunnel, account: Account, target: ProbeTarget, opened: ByteStream | None
) -> float:
    stream = opened or await tunnel.open(target.destination)
    try:
        return await _ask(stream, account, target)
    except DestinationError as error:
        message = f"the server answers, but cannot reach the page of probe_urls: {error}"
        raise ProbeError(message, stage="probe") from error
    finally:
        stream.abort()


async def _ask(stream: ByteStream, account: Account, target: ProbeTarget) -> float:
    asked = time.monotonic()
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
    return time.monotonic() - asked
