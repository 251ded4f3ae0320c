"""No tunnel at all: straight to the destination. For tests; the race never falls down to it."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from circumvent.api import (
    Account,
    ByteStream,
    Cost,
    DestinationError,
    Dialer,
    DialError,
    LinkError,
    Privacy,
    Reason,
    ServerEntry,
    Transport,
    Tunnel,
    hookimpl,
)
from circumvent.wire.address import Destination

LINK = "direct://"
_REASONS = {
    errno.ECONNREFUSED: Reason.REFUSED,
    errno.ENETUNREACH: Reason.NETWORK_UNREACHABLE,
    errno.EHOSTUNREACH: Reason.HOST_UNREACHABLE,
    errno.ETIMEDOUT: Reason.TIMED_OUT,
}


class Direct(Transport):
    """A plain connection to each destination."""

    name = "direct"
    schemes = ("direct",)

    def parse(self, link: str) -> ServerEntry:
        if link.strip() != LINK:
            raise LinkError(f"link: is only {LINK} here; remove what follows")
        return ServerEntry(
            transport=self.name, host="", port=0, name=self.name, link=LINK, settings=None
        )

    def privacy(self, entry: ServerEntry) -> Privacy:  # noqa: ARG002 - there is only one entry
        return Privacy.DIRECT

    def warnings(self, entry: ServerEntry) -> Sequence[str]:  # noqa: ARG002 - as above
        return ("direct: nothing is hidden from anybody",)

    def cost(self, entry: ServerEntry) -> Cost:  # noqa: ARG002 - as above
        return Cost(dial=0, stream=0)

    async def connect(
        self,
        entry: ServerEntry,  # noqa: ARG002 - as above
        dialer: Dialer,
        account: Account,  # noqa: ARG002 - a tunnel without multiplexing holds nothing itself
    ) -> Tunnel:
        return DirectTunnel(dialer)


class DirectTunnel(Tunnel):
    """A connection of its own for every stream."""

    replies = True

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer

    async def open(self, destination: Destination) -> ByteStream:
        try:
            return await self._dialer.tcp(destination.host, destination.port)
        except DialError as error:
            reason = _REASONS.get(error.errno or 0)
            if reason is None:
                raise
            raise DestinationError(reason, errno=error.errno) from None


@hookimpl
def circumvent_transports() -> Sequence[Transport]:
    """Offer going direct, to who asks for it by name."""
    return (Direct(),)
