"""No tunnel at all: straight to the destination. For tests; the race never falls back to it."""

from __future__ import annotations

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
            reason = Reason.of_errno(error.errno)
            if reason is Reason.FAILURE:  # of this machine, perhaps
                raise
            raise DestinationError(reason, errno=error.errno) from None


@hookimpl
def circumvent_transports() -> Sequence[Transport]:
    """Offer going direct, for users who ask for it by name."""
    return (Direct(),)
