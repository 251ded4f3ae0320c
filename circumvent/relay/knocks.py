"""Who may come in: knocks are opened, and none that is not bound to its channel counts twice."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from circumvent.errors import ProtocolError
from circumvent.wire.http_carrier import MAX_UPLOAD
from circumvent.wire.knock import NONCE_SIZE, Knock, KnockKind, open_knock
from circumvent.wire.request_watch import RequestHead
from circumvent.wire.websocket_handshake import upgrade_key

CLOCK_TOLERANCE = 15 * 60  # seconds; a client whose clock is further off learns it from Date
MAX_SEEN = 100_000  # knocks of 30 minutes; 20 MB. More than that are replays or a flood
_UPGRADES = frozenset((KnockKind.TLS, KnockKind.WEBSOCKET))
_COUNT_ONCE = frozenset((KnockKind.WEBSOCKET, KnockKind.DOWNLOAD))  # uploads a front may repeat
_NOBODYS = Knock(
    KnockKind.WEBSOCKET, 0, bytes(NONCE_SIZE)
)  # no request is answered sooner than others


def _expect_anything(_: Knock) -> bool:
    return True


class KnockVerifier:
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
        is_right = self._is_right(knock or _NOBODYS, head)
        if knock is None or not is_right:
            return None
        if knock.kind in _COUNT_ONCE:
            self._remember(knock)
        return knock

    def _is_right(self, knock: Knock, head: RequestHead) -> bool:
        """Whether it fits its request, its carrier and the time: all of it is looked at."""
        return _is_as_promised(knock, head) & self._expects(knock) & self._is_timely(knock)

    def _is_timely(self, knock: Knock) -> bool:
        """A channel keeps its own knock from counting twice, and a carrier its uploads'."""
        is_near = abs(int(self._now()) - knock.at) <= CLOCK_TOLERANCE
        return knock.kind is KnockKind.TLS or (is_near and knock.nonce not in self._seen)

    def _remember(self, knock: Knock) -> None:
        now = int(self._now())
        self._seen[knock.nonce] = now + 2 * CLOCK_TOLERANCE
        while len(self._seen) > MAX_SEEN or next(iter(self._seen.values())) < now:
            self._seen.popitem(last=False)


def _is_as_promised(knock: Knock, head: RequestHead) -> bool:
    """Whether the request is one that a server may answer so that the rest can follow."""
    if knock.kind is KnockKind.UPLOAD:
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
