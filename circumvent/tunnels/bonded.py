"""The bonded tunnel: one session with a relay over several carriers, as unlike as there are.

What is dialed when is decided in ``carrier_plan``. While no carrier is up the session waits for one
at the relay, and streams do not notice. TLS handshakes stay few all the same (``backoff``): a relay
that is blocked sees a few, then one a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

from circumvent.api import CarrierPipe, CarrierStatus, ServerEntry, Tunnel
from circumvent.errors import BudgetError, CircumventError, DialError
from circumvent.memory import Account, Pressure
from circumvent.session.carrier_io import CarrierIO
from circumvent.session.engine.carrier import CarrierState
from circumvent.session.engine.limits import SessionLimits
from circumvent.session.handshake import RefusedError, send_hello
from circumvent.session.session import Session
from circumvent.session.session_stream import SessionStream
from circumvent.tasks import dismiss, wake
from circumvent.tunnels.carrier_plan import CARRIERS, PlanState, Situation, make_plan
from circumvent.tunnels.carrier_routes import CarrierRoute, CarrierRoutes, MeteredDialer
from circumvent.tunnels.faults import plugin_faults
from circumvent.tunnels.timings import CarrierTimings
from circumvent.wire.address import Destination
from circumvent.wire.frames import CloseReason
from circumvent.wire.hello import ID_SIZE, SECRET_SIZE, Attach, Create, Hello, attach_proof
from circumvent.wire.opening import format_opening

_MS = 1000
_serial = itertools.count(1)  # a lost tunnel may still be closing


@dataclass(eq=False, slots=True)
class _CarrierSlot:
    """Implements ``carrier_plan.Slot``, with the task that dials and then serves the carrier."""

    route: CarrierRoute
    started: float
    task: asyncio.Task[None] | None = None
    link: CarrierIO | None = None

    @property
    def is_up(self) -> bool:
        return self.link is not None and self.link.carrier.state is CarrierState.UP

    @property
    def is_dialing(self) -> bool:
        return self.link is None

    @property
    def rtt(self) -> float:
        return self.link.carrier.estimate.srtt if self.link is not None else math.inf


def _open_account(tunnel: Account, limits: SessionLimits) -> Account:
    """For frames: what the session grants to its relay others cannot take, if there is enough."""
    name = f"{tunnel.name} frames {next(_serial)}"
    try:
        return tunnel.memory.account(name, limits.sure)
    except BudgetError:
        return tunnel.memory.account(name)


class BondedTunnel(Tunnel):
    """One session. ``credential`` makes what the relay wants to see, from a channel's binding."""

    resumes = True

    def __init__(
        self,
        entry: ServerEntry,
        routes: CarrierRoutes,
        account: Account,
        credential: Callable[[bytes], bytes],
        timings: CarrierTimings | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._entry = entry
        self._routes = routes
        self._account = account
        self._credential = credential
        self._limits = SessionLimits.beside(account.memory.arena_size)
        self._frames = _open_account(account, self._limits)
        self._changed = asyncio.Event()
        self._came_up = asyncio.Event()
        self._slots: set[_CarrierSlot] = set()
        self._first: asyncio.Future[None] = self._loop.create_future()
        self._reason: CircumventError | None = None  # why there is no first carrier yet
        self._timings = timings or CarrierTimings()
        self._plan_state = PlanState(up_at=self._loop.time())
        self._keeping: asyncio.Task[None] | None = None
        self._begin_session()

    async def start(self) -> None:
        """Return when the first carrier is up; raises what failed when every route did."""
        self._keeping = self._loop.create_task(self._keep_carriers())
        try:
            await self._first
        except BaseException:
            await self.aclose()
            raise

    async def open(self, destination: Destination) -> SessionStream:
        """Waits for no answer; what goes wrong at the relay shows at the stream. Raises DialError.

        While no carrier is up it waits for one: a relay that was started anew knows nothing of
        the session, and what was opened in it meanwhile would be lost.
        """
        while not self._is_up():
            self._came_up.clear()
            await self._came_up.wait()
        if self._session.open_streams >= self._allowed:
            raise DialError("the relay allows no more streams at a time", stage="carrier")
        return self._session.open(format_opening(destination))

    def revalidate(self) -> None:
        """Ask every carrier for a sign at once, and let every route be tried."""
        self._routes.forget()
        self._session.check_carriers()
        self._changed.set()

    async def aclose(self) -> None:
        """End the session and all its carriers."""
        tasks = [slot.task for slot in self._slots if slot.task is not None and slot.link is None]
        if self._keeping is not None:
            tasks.append(self._keeping)
        await dismiss(tasks)
        await self._session.aclose()
        carried = [slot.task for slot in self._slots if slot.task is not None]
        if carried:
            await asyncio.wait(carried)
        self._account.memory.close(self._frames)

    @property
    def carriers(self) -> tuple[CarrierStatus, ...]:
        """What ``status`` shows of each carrier."""
        links = [(slot.route, slot.link.carrier) for slot in self._slots if slot.link is not None]
        return tuple(
            CarrierStatus(
                kind=route.name,
                state=carrier.state.value,
                rtt_ms=round(carrier.estimate.srtt * _MS, 1),
                bytes_up=carrier.bytes_out,
                bytes_down=carrier.bytes_in,
            )
            for route, carrier in links
        )

    # --- keeping carriers up --------------------------------------------------------------------

    async def _keep_carriers(self) -> None:
        while True:
            self._changed.clear()
            if self._session.closed is not None:
                await self._session.aclose()
                self._begin_session()
            if self._is_up():
                self._came_up.set()
            wait = self._dial_missing()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()

    def _dial_missing(self) -> float:
        """Do what the plan says; returns seconds until there may be more to do."""
        now = self._loop.time()
        moment = Situation(
            self._routes,
            self._timings,
            now,
            self._wanted(),
            is_cut_off=self._allowed > 0 and not self._session.carriers,
            grow_after=random.uniform(*self._timings.grow_after),  # noqa: S311 - no secret
        )
        plan = make_plan(tuple(self._slots), self._plan_state, moment)
        self._plan_state = plan.state
        for slot in plan.give_up:
            self._give_up(slot)
        for route in plan.dials:
            self._dial(route, now)
        if plan.drop is not None and plan.drop.link is not None:
            self._session.drop(plan.drop.link)
        return plan.wait

    def _is_up(self) -> bool:
        """Whether the relay knows the session, and takes bytes for it."""
        is_open = self._session.closed is None and self._allowed > 0
        return is_open and any(slot.is_up for slot in self._slots)

    def _wanted(self) -> int:
        memory = self._account.memory
        is_crowded = memory.pressure >= Pressure.SCARCE or memory.charges_wait
        return 1 if is_crowded else CARRIERS

    def _give_up(self, slot: _CarrierSlot) -> None:
        self._slots.discard(slot)
        if slot.task is not None:
            slot.task.cancel()

    def _dial(self, route: CarrierRoute, now: float) -> None:
        slot = _CarrierSlot(route, now)
        slot.task = self._loop.create_task(self._live(slot))
        self._slots.add(slot)

    async def _live(self, slot: _CarrierSlot) -> None:
        """A carrier's life, paid for from its dial to its end."""
        cost = slot.route.carrier.cost
        size = max(cost.dial, cost.stream)
        failure: CircumventError | None = None
        try:
            await self._account.reserve(size)
            try:
                await self._carry(slot)
            finally:
                self._account.discharge(size)
        except CircumventError as error:
            failure = error.bare()
            self._routes.failed(slot.route, self._loop.time())
            # It was no carrier: another route need not wait behind it.
            self._plan_state = replace(self._plan_state, grow_at=0.0)
            if isinstance(error, RefusedError) and error.reason is CloseReason.UNKNOWN_SESSION:
                self._routes.lived(slot.route)  # nobody blocks it: it was started anew
        finally:
            self._slots.discard(slot)
            self._changed.set()
        if failure is not None:
            self._note(slot.route, failure)

    async def _carry(self, slot: _CarrierSlot) -> None:
        link = await self._connect(slot.route)
        is_back = not self._is_up()
        joined = self._loop.time()
        slot.link = link
        self._routes.worked(slot.route)
        wake(self._first)
        self._changed.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timings.lived_after):
                await link.wait_closed()
                self._routes.failed(slot.route, self._loop.time())
                return
        self._routes.lived(slot.route)
        if is_back:
            self._routes.ask(self._loop.time())  # by other routes too, perhaps
        self._changed.set()
        await link.wait_closed()
        now = self._loop.time()
        # Others may have begun handshakes in vain meanwhile.
        self._routes.lived(slot.route, now - self._timings.lived_after)
        if now < joined + self._timings.steady_after:
            self._routes.failed(slot.route, now)

    def _note(self, route: CarrierRoute, failure: CircumventError) -> None:
        """Who waits for the first carrier hears what failed once nobody else can be tried.

        Or what the relay said: another route leads to the same answer. That no other tunnel is up
        explains nothing where something failed on its own.
        """
        if self._reason is None or not route.is_indirect:
            self._reason = failure
        now = self._loop.time()
        is_hopeless = not self._slots and self._routes.choose((), now) is None
        is_hopeless |= isinstance(failure, RefusedError)
        if is_hopeless and not self._first.done():
            self._first.set_exception(self._reason)

    # --- the session ----------------------------------------------------------------------------

    def _begin_session(self) -> None:
        self._name, self._secret = secrets.token_bytes(ID_SIZE), secrets.token_bytes(SECRET_SIZE)
        self._numbers = itertools.count(1)
        self._plan_state = replace(self._plan_state, reached=0)
        self._allowed = 0  # streams, once the relay welcomed a carrier
        self._session = Session(
            self._frames, self._limits, is_client=True, changed=self._changed.set
        )

    async def _connect(self, route: CarrierRoute) -> CarrierIO:
        with plugin_faults(route.carrier.name):
            async with asyncio.timeout(self._timings.dial_seconds):
                dialer = MeteredDialer(route, self._routes)
                pipe = await route.carrier.connect(self._entry, dialer, self._account)
                try:
                    return await self._join(pipe)
                except BaseException:
                    pipe.stream.abort()
                    raise

    async def _join(self, pipe: CarrierPipe) -> CarrierIO:
        session, number, started = self._session, next(self._numbers), self._loop.time()
        hello = self._hello(number, pipe.binding)
        try:
            welcome, leftover = await send_hello(pipe.stream, self._account, hello)
        except RefusedError as error:
            if error.reason is CloseReason.UNKNOWN_SESSION:
                session.close(error.reason)
            raise
        if session is not self._session or session.closed is not None:
            raise DialError("the session with the relay is over", stage="carrier")
        self._allowed = welcome.streams
        return session.attach(number, pipe.stream, self._loop.time() - started, leftover)

    def _hello(self, number: int, binding: bytes) -> Hello:
        """Until the relay knows the session, every carrier brings all that makes it."""
        if self._allowed:
            proof = attach_proof(self._secret, self._name, number, binding)
            return Attach(number, self._name, proof)
        return Create(number, self._name, self._secret, self._credential(binding))
