"""The cover site of a relay without the relay: the same web server.

python -m tests.peers.bare_site DIRECTORY PORT
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from aiohttp import web

from circumvent.relay.cover.files import make_runner
from circumvent.relay.cover.site import HEAD_SECONDS


async def serve(directory: Path, port: int) -> None:
    """Until it is killed."""
    runner = make_runner(directory, HEAD_SECONDS)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
