"""Signals to commands that run for long: the first drains, the second stops at once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from threading import Timer
from typing import Self

from circumvent.cli.app import STOPPED_AT_ONCE

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopper:
    """Turns SIGINT and SIGTERM into the two events that end a command; a third one kills it.

    ``draining`` is called at the first one, ``reload`` at each SIGHUP. ``exit_after`` seconds from
    the second one the process exits, even if a plugin's thread still hangs. When the context ends
    everything is closed: from then on a signal ends the process at once.
    """

    def __init__(
        self,
        draining: Callable[[], None],
        reload: Callable[[], None] | None = None,
        exit_after: float = 0.8,
    ) -> None:
        self.stop = asyncio.Event()
        self.drain = asyncio.Event()
        self._draining = draining
        self._reload = reload
        self._exit_after = exit_after
        self._is_impatient = False
        self._loop = asyncio.get_running_loop()

    @property
    def exit_code(self) -> int:
        """Of the command, once it has ended."""
        return STOPPED_AT_ONCE if self._is_impatient else 0

    def __enter__(self) -> Self:
        for number in SIGNALS:
            self._loop.add_signal_handler(number, self._signalled)
        if self._reload is not None:
            self._loop.add_signal_handler(signal.SIGHUP, self._reload)
        return self

    def __exit__(self, *_: object) -> None:
        if not self._is_impatient:
            self._from_now_on(lambda *_: _leave())

    def _signalled(self) -> None:
        if not self.drain.is_set():
            self.drain.set()
            self._draining()
            return
        self._is_impatient = True
        self.stop.set()
        self._from_now_on(signal.SIG_DFL)
        last_resort = Timer(self._exit_after, _leave)
        last_resort.daemon = True
        last_resort.start()

    def _from_now_on(self, action: Callable[..., object] | signal.Handlers) -> None:
        for number in SIGNALS:
            self._loop.remove_signal_handler(number)
            signal.signal(number, action)


def _leave() -> None:
    os._exit(STOPPED_AT_ONCE)
