"""The relay put together: from its directory to a running server."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack

from circumvent.api.streams import ByteStream
from circumvent.errors import BudgetError, ConfigError, DestinationError
from circumvent.memory import Memory
from circumvent.relay import keys
from circumvent.relay.admission import KnockedConnection
from circumvent.relay.carriers.http_stream import HttpCarrierStream
from circumvent.relay.carriers.http_table import HttpCarrierTable
from circumvent.relay.carriers.pending import PendingCarriers
from circumvent.relay.carriers.pipes import carrier, inside
from circumvent.relay.config import RelayConfig
from circumvent.relay.connection import RelayContext
from circumvent.relay.cover.site import open_site
from circumvent.relay.egress.dialer import EgressDialer
from circumvent.relay.egress.policy import EgressPolicy, is_closed
from circumvent.relay.egress.resolver import NameResolver, parse_nameservers
from circumvent.relay.home import RelayHome
from circumvent.relay.knocks import KnockVerifier
from circumvent.relay.listener import RelayListener, RelayListenerOptions
from circumvent.relay.metrics import serve_metrics
from circumvent.relay.status import RelayStatus, UserStatus, metrics
from circumvent.relay.users.meter import MeteredStream
from circumvent.relay.users.users import User, Users
from circumvent.session.engine.limits import SessionLimits
from circumvent.session.host import Hosted, SessionHost
from circumvent.status.snapshot import MemoryStatus
from circumvent.tasks import dismiss
from circumvent.wire.address import Destination
from circumvent.wire.frames import CloseReason
from circumvent.wire.knock import KnockKind

VISITORS_SURE, VISITORS_MOST = 16, 4  # parts of the memory: kept for visitors, and all they get
TRIM_SECONDS = 2.0  # how long idle pages stay ours
DRAIN_LOOK = 0.1  # seconds between two looks at whether the last stream has ended
PRIVATE_WARNING = (
    "allow_private is on: users reach this machine's own services and its private networks;"
    " for labs only"
)
METRICS_WARNING = (
    "metrics: everybody who reaches {address} can read them, and that this is a relay;"
    " listen on 127.0.0.1, or let a firewall admit your Prometheus alone"
)


def warnings(config: RelayConfig) -> Iterator[str]:
    """What the operator should know at every start."""
    if config.egress.allow_private:
        yield PRIVATE_WARNING
    address = config.metrics_address
    if address is not None and not is_closed(address.host):
        yield METRICS_WARNING.format(address=address)


class Relay:
    """One relay. Raises ConfigError, BudgetError."""

    def __init__(self, home: RelayHome) -> None:
        self._home = home
        config = home.config
        self._memory = Memory(config.memory_bytes)
        self._users = Users()
        self._refused: Counter[str] = Counter()
        self._account = self._memory.account("carriers")
        self._host = SessionHost(
            self._memory.account("sessions"),
            SessionLimits(streams=_most_streams(home)),
            self._users.verify,
            self._open,
            self._may_begin,
        )
        self._lobby = PendingCarriers(config.memory_bytes)
        self._http = HttpCarrierTable(self._account, self._serve_inside)
        self._doorkeeper = KnockVerifier(config.keys, expects=self._http.expects)
        self._front: RelayListener | None = None
        self._listen = config.listen
        self._apply(home)

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
            self._front = await self._open_front(stack)
            await self._offer_metrics(stack)
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
        ConfigError; then all stays as it is.
        """
        home = RelayHome.load(self._home.directory)
        context = self._web_context(home)
        tokens = {user.name: user.token for user in self._users.by_name.values()}
        self._apply(home)
        if self._front is not None:
            self._front.house.context = context
        for hosted in tuple(self._host.sessions.values()):
            user = self._users.by_name.get(hosted.user)
            if user is None or user.token != tokens[hosted.user]:
                hosted.session.close(CloseReason.REFUSED)

    def status(self) -> RelayStatus:
        """What ``relay status`` shows."""
        memory, front = self._memory, self._front
        return RelayStatus(
            listen=self._listen,
            state="draining" if self._host.is_draining else "up",
            visitors=len(front.visitors) if front else 0,
            visits=front.visits if front else 0,
            knocks=front.knocks if front else 0,
            bytes_up=sum(meter.bytes_up for meter in self._users.meters),
            bytes_down=sum(meter.bytes_down for meter in self._users.meters),
            refused=dict(self._refused),
            memory=MemoryStatus(
                budget=memory.budget,
                leased=memory.leased,
                charged=memory.charged,
                high_water=memory.high_water,
                arena=memory.arena_size,
                arena_high_water=memory.arena_high_water,
            ),
            users=tuple(map(self._describe, self._users.by_name.values())),
            warnings=tuple(warnings(self._home.config)),
        )

    # --- starting and stopping ------------------------------------------------------------------

    def _apply(self, home: RelayHome) -> None:
        config = home.config
        self._identity = keys.inner_context(*home.identity)
        self._outlet = EgressDialer(
            EgressPolicy(
                config.egress.refused,
                allow_private=config.egress.allow_private,
                allow_neighbours=config.egress.allow_neighbours,
            ),
            NameResolver(parse_nameservers(config.egress.nameservers)),
            config.socket_buffers,
        )
        self._users.replace(home.users, config.limits)
        self._doorkeeper.keys = config.keys
        self._home = home

    @staticmethod
    def _web_context(home: RelayHome) -> ssl.SSLContext | None:
        if not home.config.tls.enabled:
            return None
        return keys.web_context(home.certificate, home.certificate_key)

    async def _open_front(self, stack: AsyncExitStack) -> RelayListener:
        config = self._home.config
        site = await stack.enter_async_context(open_site(self._home.site, config.socket_buffers))
        budget = self._memory.budget
        visitors = self._memory.account(
            "visitors", budget // VISITORS_SURE, budget // VISITORS_MOST
        )
        front = RelayListener(
            RelayListenerOptions(config.listen_address, config.visitors, config.socket_buffers),
            RelayContext(site, self._web_context(self._home), self._doorkeeper, visitors),
            self._account,
            self._welcome,
        )
        self._listen = str(front.open())
        return front

    async def _offer_metrics(self, stack: AsyncExitStack) -> None:
        address = self._home.config.metrics_address
        if address is None:
            return
        try:
            await stack.enter_async_context(serve_metrics(address, lambda: metrics(self.status())))
        except OSError as error:
            message = f"metrics: cannot listen on {address}: {error.strerror}"
            raise ConfigError(message, stage="listen", errno=error.errno) from error

    async def _drain(self, drain: asyncio.Event) -> None:
        await drain.wait()
        self._host.is_draining = True
        for _ in range(int(self._home.config.drain_seconds / DRAIN_LOOK)):
            if not any(each.session.open_streams for each in self._host.sessions.values()):
                return
            await asyncio.sleep(DRAIN_LOOK)

    async def _trim(self) -> None:
        while True:
            await asyncio.sleep(TRIM_SECONDS)
            self._memory.trim()

    async def _close(self, tasks: Sequence[asyncio.Task[object]]) -> None:
        await dismiss(tasks)
        await self._host.aclose()
        await self._http.aclose()
        if self._front is not None:
            await self._front.aclose()

    # --- users and their streams ----------------------------------------------------------------

    async def _welcome(self, arrival: KnockedConnection) -> None:
        with self._lobby.waiting(arrival.network) as caller:
            if arrival.admission.knock.kind in (KnockKind.DOWNLOAD, KnockKind.UPLOAD):
                await self._http.welcome(arrival, caller)
                return
            async with carrier(arrival, self._identity, self._account) as link:
                await self._host.serve_carrier(link.stream, link.binding, caller.move_on)

    async def _serve_inside(self, end: HttpCarrierStream) -> None:
        with self._lobby.waiting(end.network) as caller:
            end.when_known(caller.move_on)
            link = await inside(end, self._identity)
            await self._host.serve_carrier(link.stream, link.binding, end.make_known)

    def _sessions_of(self, name: str) -> list[Hosted]:
        return [hosted for hosted in self._host.sessions.values() if hosted.user == name]

    def _may_begin(self, name: str) -> bool:
        """One more session; one that lost its client makes room for it."""
        user, sessions = self._users.by_name[name], self._sessions_of(name)
        if len(sessions) < user.limits.sessions:
            return True
        for hosted in sessions:
            if not hosted.session.carriers:
                hosted.session.close(CloseReason.DONE)
                return True
        return False

    async def _open(self, name: str, destination: Destination) -> ByteStream:
        user = self._users.by_name.get(name)
        if user is None or user.meter.streams >= user.limits.streams:
            raise BudgetError("the user has too many streams", stage="limit")
        user.meter.streams += 1  # before it is open: a user may ask faster than anybody answers
        try:
            return MeteredStream(await self._outlet.open(destination, name), user.meter)
        except DestinationError as error:
            self._refused[error.reason.name.lower()] += 1
            raise
        finally:
            user.meter.streams -= 1

    def _describe(self, user: User) -> UserStatus:
        sessions = self._sessions_of(user.name)
        return UserStatus(
            name=user.name,
            sessions=len(sessions),
            carriers=sum(len(each.session.carriers) for each in sessions),
            streams=user.meter.streams,
            bytes_up=user.meter.bytes_up,
            bytes_down=user.meter.bytes_down,
        )


def _most_streams(home: RelayHome) -> int:
    """Of one session, whoever's it is; a user's own limit counts all sessions together."""
    own = [user.limits.streams for user in home.users if user.limits is not None]
    return max([home.config.limits.streams, *own])
