"""The servers of a subscription, packed: tens of thousands fit where their links would not.

A public list has 20,000 links of 300 bytes. Packed they take a third, and the index tells without
unpacking which of them are worth a look.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

BLOCK = 64  # links that are packed as one: fewer pack worse, of more most is unpacked in vain
ID_SIZE = 5  # bytes; ids are shown as ten hexadecimal digits
_INDEX = ID_SIZE + 1


class ServerList(msgspec.Struct, frozen=True):
    """What a subscription brought last. Times are unix seconds.

    ``index`` holds six bytes for each server: its id, and its privacy class. ``blocks`` hold the
    links in the same order, ``BLOCK`` in each but the last.
    """

    version: int
    issued: int
    expires: int
    index: bytes
    blocks: tuple[bytes, ...]

    # What a bundle has besides: nobody signs a subscription, and it names no other sources.
    sources = ()
    next_trust = None

    def __repr__(self) -> str:
        return f"ServerList(version={self.version}, expires={self.expires}, …)"

    @property
    def count(self) -> int:
        """How many servers it holds."""
        return len(self.index) // _INDEX

    @property
    def size(self) -> int:
        """The bytes that it takes."""
        return len(self.index) + sum(map(len, self.blocks))

    @property
    def entries(self) -> tuple[str, ...]:
        """All links, unpacked: for those who want to see them, not to keep them."""
        return tuple(self.links(range(self.count)))

    def cut(self) -> ServerList:
        """The list without its last block, where memory has no room for all of it."""
        blocks = self.blocks[:-1]
        index = self.index[: len(blocks) * BLOCK * _INDEX]
        return msgspec.structs.replace(self, index=index, blocks=blocks)

    def clock_behind(self, now: float) -> float:  # noqa: ARG002 - as of a bundle
        """Nobody signed it, so it tells nothing about the time."""
        return 0.0

    def id_at(self, position: int) -> str:
        """The id of the server at ``position``."""
        return self.index[position * _INDEX : position * _INDEX + ID_SIZE].hex()

    def class_at(self, position: int) -> int:
        """The privacy class of the server at ``position``."""
        return self.index[position * _INDEX + ID_SIZE]

    def classes(self) -> Counter[int]:
        """How many servers are of each privacy class."""
        return Counter(self.index[ID_SIZE::_INDEX])

    def links(self, positions: Iterable[int]) -> Iterator[str]:
        """The links at these positions; neighbours share the work."""
        unpacked, block = -1, [""]
        for position in positions:
            if position // BLOCK != unpacked:
                unpacked = position // BLOCK
                block = zlib.decompress(self.blocks[unpacked]).decode().split("\n")
            yield block[position % BLOCK]


class Packer:
    """Packs servers one after the other; ``size`` is what they take so far, in bytes."""

    def __init__(self) -> None:
        self._index = bytearray()
        self._blocks: list[bytes] = []
        self._loose: list[str] = []
        self.size = 0

    def add(self, server_id: str, privacy: int, link: str) -> None:
        """Pack one more; no link holds a line break."""
        self._index += bytes.fromhex(server_id) + bytes((privacy,))
        self._loose.append(link)
        if len(self._loose) == BLOCK:
            self._pack()

    def finish(self, version: int, issued: int, expires: int) -> ServerList:
        """All that was added, as a list."""
        if self._loose:
            self._pack()
        return ServerList(version, issued, expires, bytes(self._index), tuple(self._blocks))

    def _pack(self) -> None:
        self._blocks.append(zlib.compress("\n".join(self._loose).encode()))
        self._loose.clear()
        self.size += _INDEX * BLOCK + len(self._blocks[-1])
