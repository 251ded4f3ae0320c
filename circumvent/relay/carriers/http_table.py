"""All HTTP carriers of a relay: finds the carrier that a request belongs to, or begins it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from circumvent.errors import CircumventError, ProtocolError
from circumvent.layers.costs import INNER_TLS_COST
from circumvent.memory import Account
from circumvent.relay.admission import KnockedConnection
from circumvent.relay.carriers.http_answers import answer_download, answer_upload
from circumvent.relay.carriers.http_requests import HttpTimings
from circumvent.relay.carriers.http_stream import HttpCarrierStream
from circumvent.relay.carriers.pending import PendingCarrier
from circumvent.tasks import dismiss
from circumvent.wire.http_carrier import Note, parse_note
from circumvent.wire.knock import Knock, KnockKind

# Carriers that are over, so that nobody begins them again by repeating a request: 3 MB, and more
# than any relay has within the half hour that a knock is good for.
MAX_ENDED = 20_000

ServeCarrier = Callable[[HttpCarrierStream], Awaitable[None]]


class HttpCarrierTable:
    """``serve_carrier`` is called once for each new carrier, and owns it until it returns."""

    def __init__(
        self, account: Account, serve_carrier: ServeCarrier, timings: HttpTimings | None = None
    ) -> None:
        self._timings = timings or HttpTimings()
        self._account = account
        self._serve_carrier = serve_carrier
        self._carriers: dict[bytes, HttpCarrierStream] = {}
        self._ended: OrderedDict[bytes, None] = OrderedDict()
        self._tasks: dict[asyncio.Task[None], HttpCarrierStream] = {}

    def expects(self, knock: Knock) -> bool:
        """Whether a request with this knock can belong to a carrier.

        Where it cannot, somebody on the way repeats a request that it saw.
        """
        if knock.kind not in (KnockKind.DOWNLOAD, KnockKind.UPLOAD):
            return True
        try:
            note = parse_note(knock.note)
        except ProtocolError:
            return False
        return note.carrier in self._carriers or self._may_begin(note)

    def _may_begin(self, note: Note) -> bool:
        """A carrier begins with either kind of request: one may overtake the other."""
        return not note.offset and note.carrier not in self._ended

    async def serve(self, knocked: KnockedConnection, place: PendingCarrier) -> None:
        """Answer one request; ``place`` is held until the carrier's user is authenticated.

        Owns the connection. Raises RemoteError, and BudgetError when there is no memory for
        another carrier.
        """
        note = parse_note(knocked.admission.knock.note)
        carrier = self._find(note, knocked.network)
        if carrier is not None:
            carrier.on_authenticated(place.release)
        if knocked.admission.knock.kind is KnockKind.DOWNLOAD:
            await answer_download(carrier, knocked.stream, note, self._account)
        else:
            await answer_upload(carrier, knocked, note, self._account)

    async def aclose(self) -> None:
        """End all carriers."""
        for carrier in tuple(self._tasks.values()):
            carrier.abort()
        await dismiss(self._tasks)

    def _find(self, note: Note, network: str) -> HttpCarrierStream | None:
        if note.carrier not in self._carriers and self._may_begin(note):
            return self._begin(note.carrier, network)
        return self._carriers.get(note.carrier)

    def _begin(self, name: bytes, network: str) -> HttpCarrierStream:
        self._account.charge(INNER_TLS_COST.dial)
        carrier = self._carriers[name] = HttpCarrierStream(network, self._timings)
        task = asyncio.get_running_loop().create_task(self._run(carrier))
        self._tasks[task] = carrier
        task.add_done_callback(lambda _: self._forget(task, name))
        return carrier

    async def _run(self, carrier: HttpCarrierStream) -> None:
        try:
            await self._serve_carrier(carrier)
        except CircumventError:
            pass  # the session has noticed, and uses its other carriers
        finally:
            carrier.abort()

    def _forget(self, task: asyncio.Task[None], name: bytes) -> None:
        del self._tasks[task]
        del self._carriers[name]
        self._ended[name] = None
        if len(self._ended) > MAX_ENDED:
            self._ended.popitem(last=False)
        self._account.discharge(INNER_TLS_COST.dial)
