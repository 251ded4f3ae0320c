"""The probe: one small HTTP request through a tunnel, whose answer is known beforehand."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from string import punctuation
from urllib.parse import quote

from circumvent.api import Tunnel
from circumvent.api.streams import ByteStream
from circumvent.errors import DestinationError, LinkError, ProbeError
from circumvent.layers.exchange import receive, send
from circumvent.memory import Account
from circumvent.net.clock import SYSTEM_CLOCK, Clock
from circumvent.net.patience import Patience, note_opened
from circumvent.net.stagger import first_success
from circumvent.tunnels.timings import ProbeTimings
from circumvent.wire.address import Destination
from circumvent.wire.browser import page_request
from circumvent.wire.host_port import parse_address

HTTP_PORT = 80
MAX_HEAD = 4096  # a 204 answer has no body and few header lines
TARGETS_AT_ONCE = 2  # one target that is down must not condemn a tunnel
# As long as the first flight of a browser through a tunnel, and one packet. Censors have taken
# connections for proxies that begin with 160 to 700 random bytes.
REQUEST_SIZES = (750, 1250)
_URL = re.compile(  # RFC 3986, without blanks and control characters
    r"(?P<scheme>[a-z]+)://(?P<authority>[^/?#\s\x00-\x1f\x7f]*)"
    r"(?P<target>[^#\s\x00-\x1f\x7f]*)(?P<fragment>#.*)?",
    re.IGNORECASE,
)
_GOOD = b" 204"  # a captive portal or block page answers 200, 302 or 403


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """A web server that answers ``path``, query included, with 204 No Content."""

    destination: Destination
    path: str

    @classmethod
    def parse(cls, url: str) -> ProbeTarget:
        """Read an ``http://`` URL; raises ValueError that repeats nothing of it."""
        match = _URL.fullmatch(url.strip())
        if match is None:
            raise ValueError(
                "is no address of a page; write it as http://HOST/PATH, without blanks"
            )
        if match["scheme"].lower() == "https":
            raise ValueError("is https://, but a probe speaks no TLS; name a page on http://")
        if match["scheme"].lower() != "http":
            raise ValueError("is not an http:// address; name a page on http://")
        if "@" in match["authority"]:
            raise ValueError("holds a user; a probe sends none, so leave out what is before '@'")
        if match["fragment"]:
            raise ValueError("has a fragment; no server sees it, so leave out what is behind '#'")
        authority = match["authority"].removesuffix(":")
        has_port = re.search(r":[^]]*$", authority)
        try:
            host, port = parse_address(authority if has_port else f"{authority}:{HTTP_PORT}")
        except LinkError as error:
            raise ValueError(f"is no address of a page: {error}") from None
        target = match["target"] if match["target"].startswith("/") else f"/{match['target']}"
        return cls(Destination(host, port), quote(target, safe=punctuation))

    def request(self) -> bytes:
        """The request's bytes, different each time."""
        host = str(self.destination).removesuffix(f":{HTTP_PORT}")
        return page_request(host, self.path, REQUEST_SIZES)


class Prober:
    """Probes tunnels; the target that comes first changes each time."""

    def __init__(
        self,
        targets: Sequence[ProbeTarget],
        clock: Clock = SYSTEM_CLOCK,
        timings: ProbeTimings | None = None,
    ) -> None:
        self._targets = targets
        self._now = clock.now
        self._timings = timings or ProbeTimings()
        self._turn = 0

    async def probe(
        self, tunnel: Tunnel, account: Account, patience: Patience, *, is_new: bool = False
    ) -> float:
        """Round-trip time in seconds, from a request to its answer.

        The server of a tunnel that ``is_new`` may be blocked, and censors count handshakes with
        it: there the second target waits until a stream to the first is open.

        Takes no longer than ``patience``, which is entered here. Holds up to ``TARGETS_AT_ONCE``
        streams, which the caller has charged. Raises ProbeError when the answer is wrong (stage
        "answer"), the server cannot reach the page ("destination") or nothing comes in time, and
        whatever opening a stream raises.
        """
        targets = self._next_targets()
        started = self._now()
        try:
            async with patience:
                first = await _open(tunnel, targets[0]) if is_new else None
                return await first_success(
                    [
                        self._probe(
                            tunnel, account, target, first if target is targets[0] else None
                        )
                        for target in targets
                    ],
                    random.uniform(*self._timings.next_target_after),  # noqa: S311 - no secret
                    drop=lambda _: None,
                )
        except TimeoutError as error:
            waited = self._now() - started
            raise ProbeError(
                f"no answer through the tunnel within {waited:.1f} s", stage="probe"
            ) from error

    async def _probe(
        self, tunnel: Tunnel, account: Account, target: ProbeTarget, opened: ByteStream | None
    ) -> float:
        stream = opened or await tunnel.open(target.destination)
        note_opened()
        asked = self._now()
        try:
            await _ask(stream, account, target)
        except asyncio.CancelledError:  # the other target was faster
            await stream.aclose()
            raise
        except DestinationError as error:
            stream.abort()
            raise ProbeError(
                f"the server answers, but cannot reach the page of probe_urls: {error}",
                stage="destination",
            ) from error
        except BaseException:
            stream.abort()
            raise
        rtt = self._now() - asked
        await stream.aclose()
        return rtt

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


async def _ask(stream: ByteStream, account: Account, target: ProbeTarget) -> None:
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
        raise ProbeError(message, stage="answer" if answer else "probe")
