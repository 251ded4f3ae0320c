"""The composition root: builds a client from a configuration and plugins."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from circumvent.api import Privacy
from circumvent.api.streams import ByteStream
from circumvent.config import Config
from circumvent.discovery.discovery import Discovery
from circumvent.discovery.origins import Origin
from circumvent.discovery.resources import Dialers, DiscoveryResources
from circumvent.errors import NoTunnelError
from circumvent.inbound.inbound import Inbound
from circumvent.inbound.options import InboundOptions
from circumvent.layers.tls.client import TlsClient
from circumvent.layers.tls.old_servers import OldServers
from circumvent.memory import Memory
from circumvent.net.descriptors import most_clients
from circumvent.net.dialer import NetDialer
from circumvent.net.network import current_network
from circumvent.plugins import Plugins
from circumvent.state.store import Store
from circumvent.status.events import Events, Listening, Warned
from circumvent.status.snapshot import MemoryStatus, Status, TunnelStatus
from circumvent.tasks import dismiss
from circumvent.tunnels.candidate import Candidate, classes_of
from circumvent.tunnels.dialer import TunnelDialer
from circumvent.tunnels.dispatch import Dispatcher
from circumvent.tunnels.floor import describe_floor
from circumvent.tunnels.health import Health
from circumvent.tunnels.live import LAST_RESORT, LiveTunnel
from circumvent.tunnels.manager import PoolOptions, TunnelManager
from circumvent.tunnels.probe import Prober, ProbeTarget
from circumvent.tunnels.race import RaceContext
from circumvent.tunnels.relay_transport import RelayTransport
from circumvent.wire.address import Destination

MAINTENANCE_SECONDS = 2.0  # what a kill -9 may lose of the records, and how long pages idle
COLLECT_AFTER = 10_000  # objects; about 1 MB, if all were cycles
CONTEXTS = 4 << 20  # bytes; few servers that race at once want different terms of TLS
_MS = 1000


@dataclass(frozen=True, slots=True)
class Servers:
    """What a client starts from: servers that the user named, and origins of further ones."""

    candidates: Sequence[Candidate] = ()
    origins: Sequence[Origin] = ()


class Client:
    """Builds the parts of a client and runs them; ``events`` is told what happens.

    ``transports``, by link scheme, are those with which its candidates are parsed. Close the
    client at the end. Raises ConfigError, BudgetError.
    """

    def __init__(self, config: Config, plugins: Plugins, events: Events) -> None:
        self._config = config
        self._plugins = plugins
        self._events = events
        self._named: Sequence[Candidate] = ()
        self._left_out = ""
        self._memory = Memory(config.memory_bytes, config.arena_bytes)
        self._store = Store(config.state_file, lambda text: events(Warned(text)))
        prober = Prober([ProbeTarget.parse(url) for url in config.probe_urls])
        self._old_tls = OldServers()
        account = self._memory.account("TLS contexts", limit=CONTEXTS)
        tls = partial(TlsClient, account=account, old=self._old_tls)
        dialer = NetDialer(tls(), config.socket_buffers, config.guard)
        learnt = dialer.guarded(config.learnt_guard())
        context = RaceContext(dialer, learnt, self._memory, prober, self._store)
        self._manager = TunnelManager(
            context,
            events,
            PoolOptions(config.privacy_floor, config.tunnels, config.parallel_dials),
        )
        self._health = Health(self._manager, self._store, current_network, dialer.forget)
        self._dispatcher = Dispatcher(self._manager, self._health, self._store.attempts)
        through_others = TunnelDialer(self._open_beside_relays, tls())
        relay = RelayTransport(
            plugins.carriers,
            through_others,
            self._manager.backoff,
            context.clock,
            context.timings,
        )
        self.transports = plugins.with_relays(relay)
        dialers = Dialers(
            lambda typed: dialer.guarded(config.learnt_guard(typed)),
            TunnelDialer(self._dispatcher.open, tls()),
            self._manager.is_up,
        )
        self._discovery = Discovery(
            DiscoveryResources(
                plugins.channels,
                self.transports,
                dialers,
                self._memory,
                self._store,
                context.clock,
                floor=config.privacy_floor,
            ),
            events,
            self._offer,
        )
        self._discovery.wants_more = self._manager.has_tried_all
        self._manager.expects_more = lambda: self._discovery.is_hunting
        account = self._memory.account("inbound")
        self._inbound = Inbound(self._dispatcher, account, self._inbound_options())

    async def run(self, servers: Servers, stop: asyncio.Event, drain: asyncio.Event) -> None:
        """Serve until ``stop``; ``drain`` lets open streams end first. Raises ConfigError."""
        self._named = servers.candidates
        self._offer((), Counter())
        _collect_rarely()
        self._health.look_at_network()
        self._inbound.start()
        self._events(Listening(self._listen()))
        parts = [
            self._manager.run(),
            self._health.run(),
            self._discovery.run(servers.origins),
            self._maintain(),
        ]
        tasks = [asyncio.ensure_future(part) for part in parts]
        leaving = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(self._drained(drain))]
        try:
            await asyncio.wait([*tasks, *leaving], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._stop([*tasks, *leaving])
        for task in tasks:  # a part that ended by itself is a bug: let it be seen
            if not task.cancelled():
                task.result()

    def close(self) -> None:
        """Write what is still buffered, and close the state file."""
        self._store.close()

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
            warnings=(*self._old_tls.warnings, *self._store.certificates.warnings),
        )

    def _inbound_options(self) -> InboundOptions:
        """Admit no more clients than there are file descriptors for: the others wait."""
        options, most = self._config.inbound(), most_clients()
        if options.max_clients <= most:
            return options
        text = f"room for {most} clients at a time: this system allows few open files (ulimit -n)"
        self._events(Warned(text))
        return replace(options, max_clients=most)

    def _offer(self, found: Sequence[Candidate], weaker: Counter[Privacy]) -> None:
        """Race what was found beside what the user named; say once what is left out."""
        offered = [*self._named, *found]
        self._manager.offer(offered)
        left_out = describe_floor(classes_of(offered) + weaker, self._config.privacy_floor)
        if left_out and left_out != self._left_out:
            self._events(Warned(left_out))
        self._left_out = left_out

    async def _open_beside_relays(self, destination: Destination) -> ByteStream:
        """A stream for a carrier, through a tunnel to no relay: through one it would loop.

        It does not wait until a tunnel is up, because users may wait for this very carrier.
        """
        if not self._manager.tunnels:
            raise NoTunnelError("no other tunnel is up", stage="dispatch")
        return await self._dispatcher.open(destination, without=RelayTransport.name)

    async def _drained(self, drain: asyncio.Event) -> None:
        await drain.wait()
        await self._inbound.drain()

    async def _stop(self, tasks: Sequence[asyncio.Task[object]]) -> None:
        await self._inbound.aclose()
        await dismiss(tasks)

    async def _maintain(self) -> None:
        while True:
            await asyncio.sleep(MAINTENANCE_SECONDS)
            self._memory.trim()
            self._store.flush()
            self._health.look_at_network()

    def _listen(self) -> str:
        addresses = (str(Destination(host, port)) for host, port in self._inbound.addresses)
        return ", ".join(addresses) or self._config.listen


def _collect_rarely() -> None:
    """Exempt what is loaded by now from collection, and collect the rest less often.

    Streams leave no cycles behind, so little memory waits for the collector.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)


def _describe(live: LiveTunnel) -> TunnelStatus:
    entry = live.candidate.entry
    warnings = (LAST_RESORT,) if live.is_last_resort else ()
    return TunnelStatus(
        transport=entry.transport,
        server=entry.id,
        name=entry.name,
        state=live.state.value,
        rtt_ms=None if live.is_last_resort else round(live.rtt * _MS, 1),
        streams=len(live.streams),
        bytes_up=live.bytes_up,
        bytes_down=live.bytes_down,
        opened_at=live.opened_at,
        warnings=(*warnings, *live.candidate.transport.warnings(entry)),
        carriers=tuple(live.tunnel.carriers),
    )
