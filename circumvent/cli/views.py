"""What ``run`` shows: plain lines, JSON lines, or a live table in a terminal."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import msgspec

from circumvent.cli.output import Spool, missing
from circumvent.cli.status import HEADER, summary, tunnel_rows
from circumvent.status.events import Event, Warned
from circumvent.status.snapshot import Status

if TYPE_CHECKING:
    from rich.console import RenderableType

REFRESH_SECONDS = 1.0


class View(Protocol):
    """Shows events as they come and, while it is followed, the status."""

    def show(self, event: Event) -> None:
        """Print one event."""

    async def follow(self, status: Callable[[], Status]) -> None:
        """Keep the status in sight until cancelled."""


class PlainView:
    """One line each; warnings go to standard error."""

    def show(self, event: Event) -> None:
        """Print one event; a closed pipe must not stop the client."""
        stream = sys.stderr if isinstance(event, Warned) else sys.stdout
        with suppress(OSError):
            stream.write(f"{event}\n")
            stream.flush()

    async def follow(self, status: Callable[[], Status]) -> None:
        """Show nothing: the lines are enough."""


class JsonView(PlainView):
    """One JSON object a line: ``at`` (unix seconds), ``event`` and the event's fields.

    In UTF-8, whatever the locale says (RFC 8259 section 8.1).
    """

    def __init__(self, spool: Spool | None) -> None:
        if spool is not None:
            spool.note = lambda count: _json_line(Warned(missing(count)))

    def show(self, event: Event) -> None:
        with suppress(OSError):
            sys.stdout.buffer.write(_json_line(event))
            sys.stdout.flush()


class LiveView:
    """Lines above, a table of the tunnels below, drawn by rich.

    Each print moves the cursor back from where the last one left it. So nothing is printed that
    ``spool`` would drop, and no new table before the last one is written.
    """

    def __init__(self, spool: Spool) -> None:
        from rich.console import Console  # noqa: PLC0415 - only a terminal pays for rich

        self._console = Console(highlight=False)
        self._spool = spool

    def show(self, event: Event) -> None:
        """Print one event above the table."""
        spool = self._spool
        if not spool.has_room:
            spool.lost += 1
            return
        if count := spool.lost:
            spool.lost = 0
            self._print(Warned(missing(count)))
        self._print(event)

    async def follow(self, status: Callable[[], Status]) -> None:
        """Draw the table once a second until cancelled."""
        from rich.live import Live  # noqa: PLC0415 - as above

        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while True:
                if self._spool.is_empty:
                    live.update(_draw(status()), refresh=True)
                await asyncio.sleep(REFRESH_SECONDS)

    def _print(self, event: Event) -> None:
        style = "yellow" if isinstance(event, Warned) else ""
        self._console.print(str(event), markup=False, style=style)


def choose(spool: Spool | None, *, as_json: bool) -> View:
    """JSON when asked for, the live table in a terminal, else plain lines."""
    if as_json:
        return JsonView(spool)
    return LiveView(spool) if spool is not None and spool.isatty() else PlainView()


def _json_line(event: Event) -> bytes:
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(event).__name__).lower()
    fields = msgspec.to_builtins(event)
    return msgspec.json.encode({"at": time.time(), "event": name, **fields}) + b"\n"


def _draw(status: Status) -> RenderableType:
    from rich.console import Group  # noqa: PLC0415 - as above
    from rich.table import Table  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415 - as above

    tunnels = Table(*HEADER, box=None, pad_edge=False)
    for row in tunnel_rows(status):
        tunnels.add_row(*map(Text, row))
    return Group(tunnels, Text(summary(status), style="dim"))
