"""The transport to relays, over whatever carriers the plugins offer.

Modules that only users of relays need are imported with the first link to a relay.
"""

from __future__ import annotations

from collections.abc import Mapping

from circumvent.api import (
    Carrier,
    Cost,
    Dialer,
    NetworkDialer,
    Privacy,
    ServerEntry,
    Transport,
    Tunnel,
)
from circumvent.errors import UnsupportedError
from circumvent.memory import Account
from circumvent.net.clock import SYSTEM_CLOCK, Clock
from circumvent.tunnels.backoff import Backoff, BackoffError
from circumvent.tunnels.timings import Timings


class RelayTransport(Transport):
    """Makes bonded tunnels.

    ``carriers`` are keyed by name. ``through`` dials further carriers over other tunnels; None:
    there are no others. ``backoff`` counts the handshakes with each relay by ``clock``, and is the
    tunnel manager's where there is one.
    """

    name = "relay"
    schemes = ("relay",)

    def __init__(
        self,
        carriers: Mapping[str, Carrier],
        through: Dialer | None = None,
        backoff: Backoff | None = None,
        clock: Clock = SYSTEM_CLOCK,
        timings: Timings | None = None,
    ) -> None:
        self._carriers = carriers
        self._through = through
        self._clock = clock
        self._timings = timings or Timings()
        self._backoff = backoff or Backoff(self._timings.backoff)
        self._names: dict[tuple[str, str], str] = {}

    def parse(self, link: str) -> ServerEntry:
        from circumvent.links.relay import (  # noqa: PLC0415
            format_relay_link,
            parse_relay_link,
        )

        settings = parse_relay_link(link)
        if not any(name in self._carriers for name in settings.carriers):
            wanted, known = ", ".join(settings.carriers), ", ".join(self._carriers) or "none"
            raise UnsupportedError(
                f"carriers: none of {wanted} is supported; supported: {known}", stage="link"
            )
        return ServerEntry(
            transport=self.name,
            host=settings.host,
            port=settings.port,
            name=settings.name,
            link=format_relay_link(settings),
            settings=settings,
        )

    def privacy(self, entry: ServerEntry) -> Privacy:  # noqa: ARG002 - the relay's key is pinned
        return Privacy.ENCRYPTED

    def cost(self, entry: ServerEntry) -> Cost:  # noqa: ARG002 - carriers pay for themselves
        return Cost(dial=0, stream=1024)

    async def connect(self, entry: ServerEntry, dialer: NetworkDialer, account: Account) -> Tunnel:
        from circumvent.links.relay import RelayLink  # noqa: PLC0415
        from circumvent.tunnels.bonded import BondedTunnel  # noqa: PLC0415
        from circumvent.tunnels.carrier_routes import CarrierRoutes, RouteHistory, find_routes  # noqa: PLC0415
        from circumvent.wire.credential import make_credential  # noqa: PLC0415

        settings = entry.settings
        if not isinstance(settings, RelayLink):
            raise TypeError("not an entry of the relay transport")
        carriers = [self._carriers[name] for name in settings.carriers if name in self._carriers]
        routes = await find_routes(carriers, entry.host, dialer, self._through)
        token = settings.token
        past = RouteHistory(self._backoff, self._names)
        chooser = CarrierRoutes(routes, past, entry.id, self._clock, self._timings)
        seconds = chooser.may_begin_at() - self._clock.now()
        if seconds > 0.0:
            raise BackoffError(seconds)
        tunnel = BondedTunnel(
            entry,
            chooser,
            account,
            lambda binding: make_credential(token, binding),
            self._timings.carriers,
        )
        await tunnel.start()
        return tunnel
