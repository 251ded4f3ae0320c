"""The cover site of a relay that is given a directory: a small web server on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from circumvent.wire.address import Destination

if TYPE_CHECKING:
    from aiohttp import web

HEAD_SECONDS = 60.0  # for a request's head, and between requests: nginx's default for the former
_INDEX = "index.html"
_LOOPBACK = "127.0.0.1"


@asynccontextmanager
async def serve_directory(directory: Path) -> AsyncIterator[Destination]:
    """Serve the files in ``directory`` while the context lasts; where, is what it gives."""
    from aiohttp import web  # noqa: PLC0415 - 25 MB, on the relay only

    runner = web.AppRunner(
        make_application(directory),
        access_log=None,
        keepalive_timeout=HEAD_SECONDS,
        handle_signals=False,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, _LOOPBACK, 0).start()
        yield Destination(_LOOPBACK, runner.addresses[0][1])
    finally:
        await runner.cleanup()


def make_application(directory: Path) -> web.Application:
    """The site as ``aiohttp`` serves it."""
    from aiohttp import web  # noqa: PLC0415

    root = directory.resolve()

    async def serve(request: web.Request) -> web.StreamResponse:
        file = _file(root, request.path)
        if file is None:
            raise web.HTTPNotFound
        return web.FileResponse(file)

    application = web.Application()
    application.router.add_get("/{path:.*}", serve)
    return application


def _file(root: Path, path: str) -> Path | None:
    """The file behind a URL's path, if it is there, below ``root`` and not hidden."""
    try:
        wanted = (root / path.lstrip("/")).resolve()
        if wanted.is_dir():
            wanted /= _INDEX
        if not wanted.is_file() or not wanted.is_relative_to(root):
            return None
    except (OSError, ValueError):  # a name that is too long, a NUL byte
        return None
    names = wanted.relative_to(root).parts
    return None if any(name.startswith(".") for name in names) else wanted
