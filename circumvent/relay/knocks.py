"""Verifies knocks; one that is not bound to its TLS channel is accepted only once."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from circumvent.errors import ProtocolError
from circumvent.wire.http_carrier import MAX_UPLOAD
from circumvent.wire.knock import NONCE_SIZE, Knock, KnockKind, open_knock
from circumvent.wire.request_watch import RequestHead
from circumvent.wire.websocket_handshake import upgrade_key

CLOCK_TOLERANCE = (
    15 * 60
)  # seconds; a client whose clock is further off can see that in the Date header
MAX_SEEN = 100_000  # knocks of 30 minutes, 20 MB; more than that is a replay or a flood
_UPGRADES = frozenset((KnockKind.TLS, KnockKind.WEBSOCKET))
_COUNT_ONCE = frozenset((KnockKind.WEBSOCKET, KnockKind.DOWNLOAD))  # a front may repeat uploads
# Stands for a knock where there is none: so that every request takes the same time.
_NO_KNOCK = Knock(KnockKind.WEBSOCKET, 0, bytes(NONCE_SIZE))


def _expect_anything(_: Knock) -> bool:
    return True


class KnockVerifier:
    """Verifies knocks that were made with one of ``keys``.

    The first key is in new invites, the others are still accepted. ``now`` gives Unix time in
    seconds. ``expects`` tells whether a knock can belong to a carrier. The last ``max_seen`` knocks
    are remembered, so that none of them is accepted again.
    """

    def __init__(
        self,
        keys: Sequence[bytes],
        now: Callable[[], float] = time.time,
        expects: Callable[[Knock], bool] = _expect_anything,
        max_seen: int = MAX_SEEN,
    ) -> None:
        self.keys = tuple(keys)
        self._now = now
        self._expects = expects
        self._max_seen = max_seen
        self._seen: OrderedDict[bytes, int] = OrderedDict()

    def admit(self, head: RequestHead, binding: bytes) -> Knock | None:
        """The right knock of a request, or None; both take the same time."""
        cookies = head.headers.get(b"cookie", b"")
        opened = [open_knock(key, cookies, binding) for key in self.keys]
        knock = next((each for each in opened if each is not None), None)
        fits = self._fits(knock or _NO_KNOCK, head)
        if knock is None or not fits:
            return None
        if knock.kind in _COUNT_ONCE:
            self._remember(knock)
        return knock

    def _fits(self, knock: Knock, head: RequestHead) -> bool:
        """Whether it fits its request, its carrier and the time; all three are always checked."""
        return _fits_request(knock, head) & self._expects(knock) & self._is_timely(knock)

    def _is_timely(self, knock: Knock) -> bool:
        """Whether it is recent and was not used before.

        A knock for a TLS channel needs no such check: its channel makes it unique.
        """
        is_recent = abs(int(self._now()) - knock.at) <= CLOCK_TOLERANCE
        return knock.kind is KnockKind.TLS or (is_recent and knock.nonce not in self._seen)

    def _remember(self, knock: Knock) -> None:
        now = int(self._now())
        self._seen[knock.nonce] = now + 2 * CLOCK_TOLERANCE
        while len(self._seen) > self._max_seen or next(iter(self._seen.values())) < now:
            self._seen.popitem(last=False)


def _fits_request(knock: Knock, head: RequestHead) -> bool:
    """Whether the request is of the kind that the knock announces."""
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
