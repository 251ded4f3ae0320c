"""How ``run`` shows what happens: plain lines, JSON lines, or a live table in a terminal."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import click
import msgspec

from circumvent.cli.status import HEADER, summary, tunnel_rows
from circumvent.events import Event, Warned
from circumvent.status import Status

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
        with suppress(OSError):
            click.echo(str(event), err=isinstance(event, Warned))

    async def follow(self, status: Callable[[], Status]) -> None:
        """Nothing: lines say it all."""


class JsonView(PlainView):
    """One JSON object a line: ``at`` (unix seconds), ``event`` and the event's fields."""

    def show(self, event: Event) -> None:
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(event).__name__).lower()
        fields = msgspec.to_builtins(event)
        line = msgspec.json.encode({"at": time.time(), "event": name, **fields})
        with suppress(OSError):
            click.echo(line.decode())


class LiveView:
    """Lines above, a table of the tunnels below, drawn by rich."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - only a terminal pays for rich

        self._console = Console(highlight=False)

    def show(self, event: Event) -> None:
        """Print one event above the table."""
        with suppress(OSError):
            self._console.print(str(event), markup=False, style=_style(event))

    async def follow(self, status: Callable[[], Status]) -> None:
        """Draw the table once a second until cancelled."""
        from rich.live import Live  # noqa: PLC0415 - as above

        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while True:
                live.update(_draw(status()), refresh=True)
                await asyncio.sleep(REFRESH_SECONDS)


def choose(*, as_json: bool) -> View:
    """JSON when asked for, the live table in a terminal, else plain lines."""
    if as_json:
        return JsonView()
    return LiveView() if sys.stdout.isatty() else PlainView()


def _style(event: Event) -> str:
    return "yellow" if isinstance(event, Warned) else ""


def _draw(status: Status) -> RenderableType:
    from rich.console import Group  # noqa: PLC0415 - as above
    from rich.table import Table  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415 - as above

    tunnels = Table(*HEADER, box=None, pad_edge=False)
    for row in tunnel_rows(status):
        tunnels.add_row(*map(Text, row))
    return Group(tunnels, Text(summary(status), style="dim"))
