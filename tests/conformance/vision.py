"""A VLESS server with Vision, after the handshake of its TLS; written from the specification."""

from __future__ import annotations

from circumvent.testing.far_end import Codec

_HEADER = 5
_PIECE = 8000
_PADDING = 40
CONTINUE, PLAIN, RAW = 0, 1, 2


class VisionCodec(Codec):
    """``inner`` is the TLS with VLESS's headers inside.

    It pads all that it seals until ``last_block``. ``blocks`` are those that came: the command,
    the content and the size of the padding.
    """

    def __init__(self, inner: Codec, user: bytes) -> None:
        self._inner = inner
        self._user_out = self._user_in = user
        self._wire = self._plain = b""
        self._sends = self._gets = CONTINUE
        self.blocks: list[tuple[int, bytes, int]] = []

    @property
    def ends_the_wire(self) -> bool:  # type: ignore[override]
        return self._sends == RAW

    @property
    def ended(self) -> bool:  # type: ignore[override]
        return self._gets != RAW and self._inner.ended

    def seal(self, data: bytes) -> bytes:
        if self._sends == RAW:
            return data
        if self._sends == CONTINUE:
            pieces = [data[at : at + _PIECE] for at in range(0, len(data), _PIECE)]
            data = b"".join(self._block(CONTINUE, piece) for piece in pieces)
        return self._inner.seal(data)

    def last_block(self, command: int, data: bytes) -> bytes:
        """The last padded block of what we send."""
        self._sends = command
        return self._inner.seal(self._block(command, data))

    def _block(self, command: int, data: bytes) -> bytes:
        user, self._user_out = self._user_out, b""
        head = bytes((command,)) + len(data).to_bytes(2) + _PADDING.to_bytes(2)
        return user + head + data + bytes(_PADDING)

    def open(self, wire: bytes) -> bytes:
        if self._gets == RAW:
            return wire
        if not wire:
            return self._unpad(self._inner.open(wire))
        self._wire += wire
        data = b""
        while self._gets != RAW and len(self._wire) >= _HEADER:
            end = _HEADER + int.from_bytes(self._wire[3:_HEADER])
            if len(self._wire) < end:
                return data
            record, self._wire = self._wire[:end], self._wire[end:]
            data += self._unpad(self._inner.open(record))
        if self._gets == RAW:
            data, self._wire = data + self._wire, b""
        return data

    def _unpad(self, plain: bytes) -> bytes:
        self._plain += plain
        begun = self._plain[: len(self._user_in)]
        assert begun == self._user_in[: len(begun)]
        self._plain, self._user_in = self._plain[len(begun) :], self._user_in[len(begun) :]
        data = b""
        while self._gets == CONTINUE and len(self._plain) >= _HEADER:
            size = int.from_bytes(self._plain[1:3])
            padding = int.from_bytes(self._plain[3:_HEADER])
            if len(self._plain) < _HEADER + size + padding:
                return data
            content = self._plain[_HEADER : _HEADER + size]
            self.blocks.append((self._plain[0], content, padding))
            self._gets = self._plain[0]
            self._plain = self._plain[_HEADER + size + padding :]
            data += content
        if self._gets != CONTINUE:
            data, self._plain = data + self._plain, b""
        return data

    def replies(self) -> bytes:
        return b"" if self._sends == RAW else self._inner.replies()

    def announce_end(self) -> bytes:
        return b"" if self._sends == RAW else self._inner.announce_end()
