"""Serves metrics to Prometheus; no metric tells who visits what."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from circumvent.wire.address import Destination

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; ``kind`` is "counter" or "gauge", the keys of ``values`` are label texts."""

    name: str
    kind: str
    help: str
    values: dict[str, float]


def exposition(metrics: Iterable[Metric]) -> str:
    """The metrics in Prometheus' text format, version 0.0.4."""
    lines: list[str] = []
    for metric in metrics:
        name = f"circumvent_relay_{metric.name}"
        lines += [f"# HELP {name} {metric.help}", f"# TYPE {name} {metric.kind}"]
        lines += [f"{name}{labels} {value:g}" for labels, value in metric.values.items()]
    return "\n".join([*lines, ""])


@asynccontextmanager
async def serve_metrics(
    address: Destination, collect: Callable[[], Iterable[Metric]]
) -> AsyncIterator[None]:
    """Answer ``GET /metrics`` while the context lasts; raises OSError."""
    from aiohttp import web  # noqa: PLC0415 - 25 MB, on the relay only

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=exposition(collect()), headers={"Content-Type": CONTENT_TYPE})

    application = web.Application()
    application.router.add_get("/metrics", answer)
    runner = web.AppRunner(application, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, address.host, address.port).start()
        yield
    finally:
        await runner.cleanup()
