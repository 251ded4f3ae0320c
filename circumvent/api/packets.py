"""Datagrams to and from one address: for questions that fit in one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self


class Datagrams(ABC):
    """An endpoint that talks with one address; a context manager."""

    @abstractmethod
    def send(self, data: bytes) -> None:
        """Send one; it may be lost. Raises StreamResetError when nobody is there."""

    @abstractmethod
    async def receive(self, seconds: float) -> bytes:
        """The next one, from that address only; what is too long is left out.

        Raises TimeoutError after so many seconds, StreamResetError when nobody is there. Anybody
        on the way can forge either: ask on, and let a signature decide.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of it; idempotent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
