"""A directory as a web site, by ``aiohttp``: 25 MB, so this is imported where it is served."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import IO, Any

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

HEAD_SECONDS = 60.0  # for a request's head, and between requests: nginx's default for the former
MAX_FIELD, MAX_FIELDS = 4096, 40  # bytes; nginx refuses more than 32 KiB in all
PIECE = 32 * 1024  # of a file, held by each visitor that is sent one
_INDEX = "index.html"
_ENDINGS = ("", ".gz", ".br")  # aiohttp sends a compressed file that lies beside the one asked for


def make_runner(directory: Path) -> web.AppRunner:
    """The site, not bound to any address yet."""
    root = directory.resolve()

    async def serve(request: web.Request) -> web.StreamResponse:
        file = find_file(root, request.path)
        if file is None:
            raise web.HTTPNotFound
        return PiecewiseResponse(file, chunk_size=PIECE)

    application = web.Application()
    application.router.add_get("/{path:.*}", serve)
    return web.AppRunner(
        application,
        access_log=None,
        logger=_silence(),
        handle_signals=False,
        keepalive_timeout=HEAD_SECONDS,
        max_line_size=MAX_FIELD,
        max_field_size=MAX_FIELD,
        max_headers=MAX_FIELDS,
    )


class PiecewiseResponse(web.FileResponse):
    """A file in pieces: there is no socket into which the kernel could copy it."""

    async def _sendfile(
        self, request: web.BaseRequest, fobj: IO[Any], offset: int, count: int
    ) -> AbstractStreamWriter:
        writer = await web.StreamResponse.prepare(self, request)
        assert writer is not None  # noqa: S101 - for the checker
        return await self._sendfile_fallback(writer, fobj, offset, count)


def _silence() -> logging.Logger:
    """Nobody needs a traceback for each piece of nonsense that a stranger sends."""
    logger = logging.getLogger(__name__)
    logger.setLevel(logging.CRITICAL)
    return logger


def find_file(root: Path, path: str) -> Path | None:
    """The file behind a URL's path, if it is there, below ``root`` and not hidden."""
    try:
        wanted = root / path.lstrip("/")
        if wanted.is_dir():
            wanted /= _INDEX
        wanted = wanted.resolve()
        is_shown = wanted.is_file() and all(
            _is_inside(root, wanted.with_name(wanted.name + ending)) for ending in _ENDINGS
        )
    except (OSError, ValueError):  # a name that is too long, a NUL byte
        return None
    return wanted if is_shown else None


def _is_inside(root: Path, file: Path) -> bool:
    """Whether a file, wherever links lead, is below ``root`` and not hidden; or is not there."""
    file = file.resolve()
    if not file.is_relative_to(root):
        return False
    return not any(name.startswith(".") for name in file.relative_to(root).parts)
