"""The relay's composition root: from its directory to a running server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack

from circumvent.errors import ConfigError
from circumvent.memory import Memory
from circumvent.relay import keys
from circumvent.relay.carriers.server import CarrierServer
from circumvent.relay.connection import RelayContext
from circumvent.relay.cover.site import open_site
from circumvent.relay.egress.dialer import EgressDialer
from circumvent.relay.egress.nameservers import parse_nameservers
from circumvent.relay.egress.policy import EgressPolicy
from circumvent.relay.egress.resolver import NameResolver
from circumvent.relay.home import RelayHome
from circumvent.relay.knocks import KnockVerifier
from circumvent.relay.listener import RelayListener, RelayListenerOptions
from circumvent.relay.metrics import serve_metrics
from circumvent.relay.sessions import UserSessions
from circumvent.relay.status import RelayStatus, metrics
from circumvent.relay.warnings import warnings
from circumvent.session.engine.limits import SessionLimits
from circumvent.status.snapshot import MemoryStatus
from circumvent.tasks import dismiss

# One part in so many of the memory budget: kept for visitors, and the most that they get.
VISITORS_SURE, VISITORS_MOST = 16, 4
TRIM_SECONDS = 2.0  # between two returns of idle pages to the system
DRAIN_LOOK = 0.1  # seconds between two looks at whether the last stream has ended


class Relay:
    """One relay; ``run`` serves. The constructor raises ConfigError, BudgetError."""

    def __init__(self, home: RelayHome) -> None:
        self._home = home
        config = home.config
        self._memory = Memory(config.memory_bytes)
        self._sessions = UserSessions(
            self._memory.account("sessions"),
            SessionLimits(streams=_most_streams(home)),
            _egress_dialer(home),
        )
        self._account = self._memory.account("carriers")
        self._carriers = CarrierServer(
            self._account,
            config.memory_bytes,
            keys.inner_context(*home.identity),
            self._sessions.host.serve_carrier,
        )
        self._verifier = KnockVerifier(config.keys, expects=self._carriers.expects)
        self._sessions.replace_users(home.users, config.limits)
        self._listener: RelayListener | None = None
        self._address = config.listen

    async def run(
        self,
        stop: asyncio.Event,
        drain: asyncio.Event,
        ready: Callable[[RelayStatus], None] = lambda _: None,
    ) -> None:
        """Serve until ``stop``; after ``drain`` nothing new begins, and what is open may end.

        Raises ConfigError.
        """
        async with AsyncExitStack() as stack:
            self._listener = await self._open_listener(stack)
            await self._serve_metrics(stack)
            ready(self.status())
            parts: list[Coroutine[None, None, object]] = [
                stop.wait(),
                self._drain(drain),
                self._trim(),
            ]
            tasks = [asyncio.ensure_future(part) for part in parts]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await self._close(tasks)
        for task in tasks:  # a part that ended by itself is a bug: let it be seen
            if not task.cancelled():
                task.result()

    def reload(self) -> None:
        """Read the directory anew; sessions go on, unless their user or the user's token is gone.

        The address, the cover site, the memory and the metrics' address stay as they are. Raises
        ConfigError; then everything stays as it is.
        """
        home = RelayHome.load(self._home.directory)
        web, identity = _web_tls(home), keys.inner_context(*home.identity)
        sessions = self._sessions
        sessions.egress = _egress_dialer(home)
        sessions.replace_users(home.users, home.config.limits)
        self._carriers.identity = identity
        self._verifier.keys = home.config.keys
        if self._listener is not None:
            self._listener.context.tls = web
        self._home = home

    def status(self) -> RelayStatus:
        """What ``relay status`` shows."""
        memory, listener, sessions = self._memory, self._listener, self._sessions
        return RelayStatus(
            listen=self._address,
            state="draining" if sessions.host.is_draining else "up",
            visitors=len(listener.visitors) if listener else 0,
            visits=listener.visits if listener else 0,
            knocks=listener.knocks if listener else 0,
            bytes_up=sum(meter.bytes_up for meter in sessions.users.meters),
            bytes_down=sum(meter.bytes_down for meter in sessions.users.meters),
            refused=dict(sessions.refused),
            memory=MemoryStatus(
                budget=memory.budget,
                leased=memory.leased,
                charged=memory.charged,
                high_water=memory.high_water,
                arena=memory.arena_size,
                arena_high_water=memory.arena_high_water,
            ),
            users=sessions.describe(),
            warnings=tuple(warnings(self._home.config)),
        )

    # --- starting and stopping ------------------------------------------------------------------

    async def _open_listener(self, stack: AsyncExitStack) -> RelayListener:
        config = self._home.config
        site = await stack.enter_async_context(open_site(self._home.site, config.socket_buffers))
        budget = self._memory.budget
        visitors = self._memory.account(
            "visitors", budget // VISITORS_SURE, budget // VISITORS_MOST
        )
        listener = RelayListener(
            RelayListenerOptions(config.listen_address, config.visitors, config.socket_buffers),
            RelayContext(site, _web_tls(self._home), self._verifier, visitors),
            self._account,
            self._carriers.serve,
        )
        self._address = str(listener.open())
        return listener

    async def _serve_metrics(self, stack: AsyncExitStack) -> None:
        address = self._home.config.metrics_address
        if address is None:
            return
        try:
            await stack.enter_async_context(serve_metrics(address, lambda: metrics(self.status())))
        except OSError as error:
            raise ConfigError(
                f"metrics: cannot listen on {address}: {error.strerror}",
                stage="listen",
                errno=error.errno,
            ) from error

    async def _drain(self, drain: asyncio.Event) -> None:
        await drain.wait()
        self._sessions.host.is_draining = True
        for _ in range(int(self._home.config.drain_seconds / DRAIN_LOOK)):
            if not self._sessions.has_streams:
                return
            await asyncio.sleep(DRAIN_LOOK)

    async def _trim(self) -> None:
        while True:
            await asyncio.sleep(TRIM_SECONDS)
            self._memory.trim()

    async def _close(self, tasks: Sequence[asyncio.Task[object]]) -> None:
        await dismiss(tasks)
        await self._sessions.host.aclose()
        await self._carriers.aclose()
        if self._listener is not None:
            await self._listener.aclose()


def _egress_dialer(home: RelayHome) -> EgressDialer:
    settings = home.config.egress
    policy = EgressPolicy(
        settings.refused,
        allow_private=settings.allow_private,
        allow_neighbours=settings.allow_neighbours,
    )
    resolver = NameResolver(parse_nameservers(settings.nameservers))
    return EgressDialer(policy, resolver, home.config.socket_buffers)


def _web_tls(home: RelayHome) -> ssl.SSLContext | None:
    """TLS on the relay's port; None where a web server in front ends it."""
    if not home.config.tls.enabled:
        return None
    return keys.web_context(home.certificate, home.certificate_key)


def _most_streams(home: RelayHome) -> int:
    """The most streams of one session; a user's own limit counts all the user's sessions."""
    own = [user.limits.streams for user in home.users if user.limits is not None]
    return max([home.config.limits.streams, *own])
