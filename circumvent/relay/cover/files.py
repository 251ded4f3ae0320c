"""Serves a directory as a web site with aiohttp; imported late, because aiohttp takes 25 MB."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import IO, Any

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

MAX_FIELD, MAX_FIELDS = 4096, 40  # bytes; nginx refuses more than 32 KiB in all
PIECE = 32 * 1024  # bytes of a file that are held for each visitor
_INDEX = "index.html"
_ENDINGS = (
    "",
    ".gz",
    ".br",
)  # aiohttp also sends the compressed file beside the one that was asked for


def make_runner(directory: Path, head_seconds: float) -> web.AppRunner:
    """The site's server, not bound to any address."""
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
        logger=_silent_logger(),
        handle_signals=False,
        keepalive_timeout=head_seconds,
        max_line_size=MAX_FIELD,
        max_field_size=MAX_FIELD,
        max_headers=MAX_FIELDS,
    )


class PiecewiseResponse(web.FileResponse):
    """A file that is sent in pieces: a CoverSitePipe has no socket for sendfile(2)."""

    async def _sendfile(
        self, request: web.BaseRequest, fobj: IO[Any], offset: int, count: int
    ) -> AbstractStreamWriter:
        writer = await web.StreamResponse.prepare(self, request)
        assert writer is not None  # noqa: S101 - for the checker
        return await self._sendfile_fallback(writer, fobj, offset, count)


def _silent_logger() -> logging.Logger:
    """A logger that drops everything: aiohttp logs a traceback for each piece of nonsense."""
    logger = logging.getLogger(__name__)
    logger.setLevel(logging.CRITICAL)
    return logger


def find_file(root: Path, path: str) -> Path | None:
    """The file for a URL's path; None unless it exists below ``root`` and is not hidden."""
    try:
        wanted = root / path.lstrip("/")
        if wanted.is_dir():
            wanted /= _INDEX
        wanted = wanted.resolve()
        is_shown = wanted.is_file() and all(
            _may_be_shown(root, wanted.with_name(wanted.name + ending)) for ending in _ENDINGS
        )
    except (OSError, ValueError):  # a name that is too long, a NUL byte
        return None
    return wanted if is_shown else None


def _may_be_shown(root: Path, file: Path) -> bool:
    """Whether ``file``, links followed, is below ``root`` and not hidden; it need not exist."""
    file = file.resolve()
    if not file.is_relative_to(root):
        return False
    return not any(name.startswith(".") for name in file.relative_to(root).parts)
