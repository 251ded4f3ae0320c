"""The composition root: from a configuration to a running client."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from circumvent.api.streams import ByteStream
from circumvent.config import Config
from circumvent.discovery.discovery import Dialers, Discovery, DiscoveryResources
from circumvent.discovery.origins import is_origin, parse_origin
from circumvent.errors import LinkError, NoTunnelError, UnsupportedError
from circumvent.inbound.inbound import Inbound
from circumvent.inbound.options import InboundOptions
from circumvent.layers.tls.client import TlsClient
from circumvent.links.pasted import unwrap
from circumvent.memory import Memory
from circumvent.net.descriptors import most_clients
from circumvent.net.dialer import NetDialer
from circumvent.net.network import current_network
from circumvent.plugins import Plugins
from circumvent.state.store import Store
from circumvent.status.events import Events, Listening, Warned
from circumvent.status.snapshot import MemoryStatus, Status, TunnelStatus
from circumvent.tunnels.candidate import Candidate
from circumvent.tunnels.dialer import TunnelDialer
from circumvent.tunnels.dispatch import Dispatcher
from circumvent.tunnels.health import Health
from circumvent.tunnels.live import LiveTunnel
from circumvent.tunnels.manager import PoolOptions, TunnelManager
from circumvent.tunnels.probe import Prober, ProbeTarget
from circumvent.tunnels.race import Track
from circumvent.tunnels.relay_transport import RelayTransport
from circumvent.wire.address import Destination

HOUSEKEEPING_SECONDS = 2.0  # what a kill -9 may lose of the records, and how long pages idle
COLLECT_AFTER = 10_000  # objects; about 1 MB, if all were cycles
CONTEXTS = 4 << 20  # bytes; of servers that all want other terms of TLS, few race at once
MAX_SCHEME = 16  # longer than any: it is a misplaced secret, not to be repeated
_MS = 1000


class Client:
    """One client; ``events`` is told what happens. Raises ConfigError, LinkError, BudgetError."""

    def __init__(self, config: Config, plugins: Plugins, events: Events) -> None:
        self._config = config
        self._plugins = plugins
        self._events = events
        self._memory = Memory(config.memory_bytes, config.arena_bytes)
        self._store = Store(config.state_file, lambda text: events(Warned(text)))
        prober = Prober([ProbeTarget.parse(url) for url in config.probe_urls])
        tls = partial(TlsClient, account=self._memory.account("TLS contexts", limit=CONTEXTS))
        dialer = NetDialer(tls(), config.socket_buffers, config.guard)
        learnt = dialer.guarded(config.learnt_guard())
        links = config.links()
        self._links = [link for link in links if not is_origin(link)]
        self._manager = TunnelManager(
            _candidates(self._links, plugins),
            Track(dialer, learnt, self._memory, prober, self._store),
            events,
            PoolOptions(config.privacy_floor, config.tunnels, config.parallel_dials),
        )
        self._health = Health(self._manager, self._store, current_network, dialer.forget)
        dispatcher = Dispatcher(self._manager, self._health, self._store.attempts)
        _set_up_relays(dispatcher, self._manager, plugins, tls)
        ways = Dialers(
            lambda typed: dialer.guarded(config.learnt_guard(typed)),
            TunnelDialer(dispatcher.open, tls()),
            self._manager.is_up,
        )
        self._discovery = Discovery(
            map(parse_origin, filter(is_origin, links)),
            DiscoveryResources(plugins.channels, ways, self._memory, self._store),
            events,
            self._offer,
        )
        self._manager.expects_more = lambda: self._discovery.is_hunting
        account = self._memory.account("inbound")
        self._door = Inbound(dispatcher, account, self._door_options())

    async def run(self, stop: asyncio.Event, drain: asyncio.Event) -> None:
        """Serve until ``stop``; ``drain`` lets open streams end first. Raises ConfigError."""
        _collect_rarely()
        self._health.look_at_network()
        self._door.start()
        self._events(Listening(self._listen()))
        parts = [
            self._manager.run(),
            self._health.run(),
            self._discovery.run(),
            self._keep_house(),
        ]
        tasks = [asyncio.ensure_future(part) for part in parts]
        leaving = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(self._drained(drain))]
        try:
            await asyncio.wait([*tasks, *leaving], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._close([*tasks, *leaving])
        for task in tasks:  # a part that ended by itself is a bug: let it be seen
            if not task.cancelled():
                task.result()

    def status(self) -> Status:
        """What ``circumvent status`` shows."""
        memory = self._memory
        return Status(
            listen=self._listen(),
            network=self._manager.network,
            privacy=self._config.privacy,
            memory=MemoryStatus(
                budget=memory.budget,
                leased=memory.leased,
                charged=memory.charged,
                high_water=memory.high_water,
                arena=memory.arena_size,
                arena_high_water=memory.arena_high_water,
            ),
            tunnels=tuple(map(_describe, self._manager.tunnels)),
            problems=tuple(
                f"plugin {problem.name}: {problem.reason}" for problem in self._plugins.problems
            ),
        )

    def _door_options(self) -> InboundOptions:
        """Clients beyond what there are descriptors for wait at the door, and harm nobody."""
        options, most = self._config.door(), most_clients()
        if options.max_clients <= most:
            return options
        text = f"room for {most} clients at a time: this system lets few files be open (ulimit -n)"
        self._events(Warned(text))
        return replace(options, max_clients=most)

    def _offer(self, entries: Sequence[str]) -> None:
        """Race what was found beside what the user gave."""
        found, unknown = _readable(entries, self._plugins)
        typed = _candidates(self._links, self._plugins)
        known = {candidate.id for candidate in typed}
        self._manager.offer([*typed, *(each for each in found if each.id not in known)])
        if unknown:
            text = f"{unknown} of the servers found are of kinds that this version lacks"
            self._events(Warned(text))

    async def _drained(self, drain: asyncio.Event) -> None:
        await drain.wait()
        await self._door.drain()

    async def _close(self, tasks: Sequence[asyncio.Task[object]]) -> None:
        await self._door.aclose()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        self._store.close()

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_SECONDS)
            self._memory.trim()
            self._store.flush()
            self._health.look_at_network()

    def _listen(self) -> str:
        addresses = (str(Destination(host, port)) for host, port in self._door.addresses)
        return ", ".join(addresses) or self._config.listen


def _collect_rarely() -> None:
    """What was loaded stays: the collector need not look at it again at every 700th object.

    Streams leave no cycles behind, so little is lost by looking seldom.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)


def parse_link(link: str, plugins: Plugins) -> Candidate:
    """The server behind a share link; raises LinkError, UnsupportedError."""
    link = unwrap(link)
    scheme, separator, _ = link.partition("://")
    if not separator or not scheme.isalnum() or len(scheme) > MAX_SCHEME:
        raise LinkError('is not a link: it must start like "ss://"; quote it in the shell')
    transport = plugins.transports.get(scheme.lower())
    if transport is None:
        known = ", ".join(f"{name}://" for name in sorted(plugins.transports))
        message = f"{scheme.lower()}:// is not supported; supported: {known or 'none'}"
        raise UnsupportedError(message, stage="link")
    return Candidate(transport.parse(link), transport)


def _candidates(links: Sequence[str], plugins: Plugins) -> list[Candidate]:
    """One per server: the same link given twice is one candidate."""
    found = (parse_link(link, plugins) for link in links)
    return list({candidate.id: candidate for candidate in found}.values())


def _readable(links: Sequence[str], plugins: Plugins) -> tuple[list[Candidate], int]:
    """The servers behind links that others wrote, and how many links are of no use to us."""
    found: dict[str, Candidate] = {}
    unknown = 0
    for link in links:
        try:
            candidate = replace(parse_link(link, plugins), is_learnt=True)
            found[candidate.id] = candidate
        except (LinkError, UnsupportedError):
            unknown += 1
    return list(found.values()), unknown


def _set_up_relays(
    dispatcher: Dispatcher, manager: TunnelManager, plugins: Plugins, tls: Callable[[], TlsClient]
) -> None:
    """Carriers may go through any tunnel but those to relays, where they would loop.

    They do not wait for one: that is for users.
    """
    for transport in plugins.transports.values():
        if isinstance(transport, RelayTransport):
            through = partial(_open_through_others, dispatcher, manager, transport.name)
            transport.through = TunnelDialer(through, tls())
            transport.backoff = manager.backoff


async def _open_through_others(
    dispatcher: Dispatcher, manager: TunnelManager, without: str, destination: Destination
) -> ByteStream:
    if not manager.tunnels:
        raise NoTunnelError("no other tunnel is up", stage="dispatch")
    return await dispatcher.open(destination, without=without)


def _describe(live: LiveTunnel) -> TunnelStatus:
    entry = live.candidate.entry
    return TunnelStatus(
        transport=entry.transport,
        server=entry.id,
        name=entry.name,
        state=live.state.value,
        rtt_ms=round(live.rtt * _MS, 1),
        streams=len(live.streams),
        bytes_up=live.bytes_up,
        bytes_down=live.bytes_down,
        opened_at=live.opened_at,
        warnings=tuple(live.candidate.transport.warnings(entry)),
        carriers=tuple(live.tunnel.carriers),
    )
