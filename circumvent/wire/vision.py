"""XTLS Vision: the first bytes of a stream in padded blocks, then plain, or past the outer TLS.

A block is ``command | u16 content | u16 padding | content | zeros``; in front of the first one of
each direction stand the 16 bytes of the user's id. Once the inner TLS 1.3 has shaken hands,
its records go raw on the connection below: they are encrypted already.
"""

from __future__ import annotations

from enum import Enum, auto
from random import SystemRandom

from circumvent.errors import ProtocolError
from circumvent.wire.vision_filter import TlsFilter, last_data, whole_data

USER_SIZE = 16
IDLE = 0.5  # seconds without a word of ours after which ``fill`` should be sent
_HEADER = 5
_FIRST = USER_SIZE + _HEADER
_PIECE = 8192  # as other implementations cut a stream
MAX_CONTENT = _PIECE - _FIRST  # bytes of content and padding in one block
_CONTINUE, _PLAIN, _RAW = 0, 1, 2
_LONG, _LONG_SPREAD, _SHORT_SPREAD = 900, 500, 256  # bytes of padding
_RANDOM = SystemRandom()


class Phase(Enum):
    """How the bytes of one direction travel."""

    PADDED = auto()
    PLAIN = auto()  # inside the outer encryption, as they are
    RAW = auto()  # past it


class Vision:
    """Both directions of one stream. ``user`` is the id as it was sent in the request.

    ``may_go_raw``: whether what we send may leave the outer encryption; what we get may always.
    ``sending`` and ``receiving`` are the phases; RAW holds for what follows, from the next record
    of the outer TLS on. So open its records one by one while ``receiving`` is PADDED.
    """

    __slots__ = ("_filter", "_may_go_raw", "_prefix", "_unpadder", "sending")

    def __init__(self, user: bytes, *, may_go_raw: bool = True) -> None:
        self.sending = Phase.PADDED
        self._filter = TlsFilter()
        self._prefix = user  # of the next block
        self._may_go_raw = may_go_raw
        self._unpadder = _Unpadder(user)

    @property
    def receiving(self) -> Phase:
        """How what comes next travels."""
        return self._unpadder.phase

    # --- out ------------------------------------------------------------------------------------

    def pad(self, data: memoryview) -> bytes:
        """Blocks around all of ``data``, while ``sending`` is PADDED; afterwards send it as it is.

        The phase ends with a write that is nothing but whole records of the inner TLS: so give
        those (``vision_filter.whole_data``) apart from the begin of the next one.
        """
        pieces = _cut(data)
        for piece in pieces:
            self._filter.look(piece)
        is_whole = whole_data(data) == len(data) > 0
        return b"".join(
            self._pad_piece(piece, is_whole=is_whole, is_last=at == len(pieces))
            for at, piece in enumerate(pieces, start=1)
        )

    def _pad_piece(self, piece: memoryview, *, is_whole: bool, is_last: bool) -> bytes:
        seen = self._filter
        if self.sending is not Phase.PADDED:  # ended with an earlier piece of this write
            return bytes(piece)
        if is_whole and seen.is_tls:
            if is_last:
                return self._end(piece, is_raw=seen.is_tls13 and self._may_go_raw)
        elif not seen.is_tls12 and seen.pieces_left <= 1:
            return self._end(piece, is_raw=False)
        return self._block(_CONTINUE, piece, is_long=seen.is_tls)

    def _end(self, piece: memoryview, *, is_raw: bool) -> bytes:
        self.sending = Phase.RAW if is_raw else Phase.PLAIN
        return self._block(_RAW if is_raw else _PLAIN, piece, is_long=self._filter.is_tls)

    def fill(self) -> bytes:
        """A block without content, for when the server is to speak first.

        Else the request would stand alone, and its length would tell what it is.
        """
        return self._block(_CONTINUE, memoryview(b""), is_long=True)

    def _block(self, command: int, content: memoryview, *, is_long: bool) -> bytes:
        size = len(content)
        if is_long and size < _LONG:
            padding = _RANDOM.randrange(_LONG_SPREAD) + _LONG - size
        else:
            padding = _RANDOM.randrange(_SHORT_SPREAD)
        padding = min(padding, MAX_CONTENT - size)
        prefix, self._prefix = self._prefix, b""
        head = bytes((command,)) + size.to_bytes(2) + padding.to_bytes(2)
        return prefix + head + bytes(content) + bytes(padding)

    # --- in -------------------------------------------------------------------------------------

    def unpad(self, view: memoryview) -> int:
        """Move all payload in ``view`` to its front; returns its size. Raises ProtocolError.

        While ``receiving`` is PADDED; afterwards what comes is payload as it is.
        """
        size = self._unpadder.unpad(view)
        for piece in _cut(view[:size]):
            self._filter.look(piece)
        return size


class _Unpadder:
    """Takes the payload out of blocks; they may be cut anywhere."""

    __slots__ = ("_begun", "_command", "_content", "_padding", "_user", "phase")

    def __init__(self, user: bytes) -> None:
        self.phase = Phase.PADDED
        self._user = user  # what of it is still to come
        self._begun = b""  # a header that came in part
        self._command = _CONTINUE
        self._content = self._padding = 0  # bytes of the block that are still to come

    def unpad(self, view: memoryview) -> int:
        at, used = self._take_user(view), 0
        while at < len(view):
            if self.phase is not Phase.PADDED:  # the rest is payload
                self._content = len(view) - at
            if self._content:
                count = min(self._content, len(view) - at)
                view[used : used + count] = view[at : at + count]
                self._content -= count
                at, used = at + count, used + count
            elif self._padding:
                count = min(self._padding, len(view) - at)
                self._padding -= count
                at += count
            else:
                at = self._take_header(view, at)
            self._end_block()
        return used

    def _take_user(self, view: memoryview) -> int:
        """Its size. A server that does not pad does not say it, and all is payload."""
        if not self._user:
            return 0
        begun = view[: len(self._user)]
        if begun == self._user[: len(begun)]:
            self._user = self._user[len(begun) :]
            return len(begun)
        if len(self._user) < USER_SIZE:
            raise ProtocolError("Vision: the server began with half of our id", stage="read")
        self._user, self.phase = b"", Phase.PLAIN
        return 0

    def _take_header(self, view: memoryview, at: int) -> int:
        end = at + _HEADER - len(self._begun)
        self._begun += bytes(view[at:end])
        if len(self._begun) == _HEADER:
            self._command = self._begun[0]
            self._content = int.from_bytes(self._begun[1:3])
            self._padding = int.from_bytes(self._begun[3:])
            self._begun = b""
            if self._command > _RAW:
                raise ProtocolError("Vision: the server sent an unknown command", stage="read")
        return min(end, len(view))

    def _end_block(self) -> None:
        """Once a block is over, its command counts."""
        if self.phase is Phase.PADDED and not (self._begun or self._content or self._padding):
            if self._command == _PLAIN:
                self.phase = Phase.PLAIN
            elif self._command == _RAW:
                self.phase = Phase.RAW


def _cut(data: memoryview) -> list[memoryview]:
    """Pieces that fit a block: at the last record that begins in one, else in two halves."""
    pieces = []
    for at in range(0, len(data), _PIECE):
        piece = data[at : at + _PIECE]
        if len(piece) >= MAX_CONTENT:
            cut = last_data(piece)
            if not _FIRST <= cut <= MAX_CONTENT:
                cut = _PIECE // 2
            pieces += [piece[:cut], piece[cut:]]
        else:
            pieces.append(piece)
    return pieces
