"""Who may come in: knocks are opened, and none that is not bound to its channel counts twice."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from circumvent.errors import ProtocolError
from circumvent.wire.http_carrier import MAX_UPLOAD
from circumvent.wire.knock import Kind, Knock, open_knock
from circumvent.wire.request_watch import RequestHead
from circumvent.wire.websocket_handshake import upgrade_key

CLOCK_TOLERANCE = 15 * 60  # seconds; a client whose clock is further off learns it from Date
MAX_SEEN = 100_000  # knocks of 30 minutes; 20 MB. More than that are replays or a flood
_UPGRADES = frozenset((Kind.TLS, Kind.WEBSOCKET))


def _expect_anything(_: Knock) -> bool:
    return True


class Doorkeeper:
    """Knows the knock keys: the one that invites hold, and older ones until those are replaced.

    ``expects`` says whether a request can belong to a carrier; others get the cover site.
    """

    def __init__(
        self,
        keys: Sequence[bytes],
        now: Callable[[], float] = time.time,
        expects: Callable[[Knock], bool] = _expect_anything,
    ) -> None:
        self.keys = tuple(keys)
        self._now = now
        self._expects = expects
        self._seen: OrderedDict[bytes, int] = OrderedDict()

    def admit(self, head: RequestHead, binding: bytes) -> Knock | None:
        """The knock in a request, if it opens; as long as it takes, whatever the request says."""
        cookies = head.headers.get(b"cookie", b"")
        opened = [open_knock(key, cookies, binding) for key in self.keys]
        knock = next((each for each in opened if each is not None), None)
        if knock is None or not _is_as_promised(knock, head):
            return None
        return knock if self._expects(knock) and self._is_fresh(knock) else None

    def _is_fresh(self, knock: Knock) -> bool:
        """A channel keeps its own knock from counting twice, and a carrier its uploads'."""
        if knock.kind is Kind.TLS:
            return True
        now = int(self._now())
        if abs(now - knock.at) > CLOCK_TOLERANCE or knock.nonce in self._seen:
            return False
        if knock.kind is Kind.UPLOAD:  # there are many, and a front may repeat one
            return True
        self._seen[knock.nonce] = now + 2 * CLOCK_TOLERANCE
        while len(self._seen) > MAX_SEEN or next(iter(self._seen.values())) < now:
            self._seen.popitem(last=False)
        return True


def _is_as_promised(knock: Knock, head: RequestHead) -> bool:
    """Whether the request is one that a server may answer so that the rest can follow."""
    if knock.kind is Kind.UPLOAD:
        return head.method == b"POST" and 0 <= head.length <= MAX_UPLOAD
    if head.method != b"GET" or head.length:
        return False
    return knock.kind not in _UPGRADES or _is_upgrade(head)


def _is_upgrade(head: RequestHead) -> bool:
    try:
        upgrade_key(head.headers.items())
    except ProtocolError:
        return False
    return True
