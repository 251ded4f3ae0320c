"""A web site of things that last: a large download, a WebSocket and a server-sent-event stream.

``python -m tests.peers.long_site PORT BYTES`` serves it on loopback; what the page has seen is
posted to ``/report`` and printed as one line. The page notices every interruption: sequence
numbers that do not follow, a WebSocket that closes, an event stream that reconnects, and the
browser itself holds the download against its SHA-256.
"""

import asyncio
import base64
import hashlib
import random
import sys
from functools import partial

from aiohttp import WSMsgType, web

HOST = "127.0.0.1"
BLOCK = random.Random(7).randbytes(1 << 20)
EVERY = 0.05  # seconds between two messages
PAGE = """<!doctype html><title>running</title><script>
const seen = {bytes: 0, echoes: 0, events: 0, wsOpens: 0, sseOpens: 0, faults: []};
const fault = text => seen.faults.push(text);
const socket = new WebSocket(`ws://${location.host}/echo`);
let said = 0, timer;
socket.onopen = () => { seen.wsOpens++; timer = setInterval(() => socket.send(said++), %(ms)d); };
socket.onmessage = event => {
  if (+event.data !== seen.echoes++) fault(`echo ${event.data} out of order`);
};
socket.onclose = event => { if (!seen.done) fault(`socket closed with ${event.code}`); };
const events = new EventSource('/events');
events.onopen = () => seen.sseOpens++;
events.onerror = () => { if (!seen.done) fault('event stream broke'); };
events.onmessage = event => {
  if (+event.data !== seen.events++) fault(`event ${event.data} out of order`);
};
const finish = () => {
  seen.done = true; clearInterval(timer);
  document.title = 'done';
  fetch('/report', {method: 'POST', body: JSON.stringify(seen)});
};
fetch('/large', {integrity: 'sha256-%(digest)s', cache: 'no-store'})
  .then(answer => answer.arrayBuffer())
  .then(body => { seen.bytes = body.byteLength; }, error => fault(`download: ${error}`))
  .then(finish);
</script>
"""


def digest(size: int) -> str:
    """SHA-256 of the download, as integrity attributes have it."""
    whole, rest = divmod(size, len(BLOCK))
    sha = hashlib.sha256()
    for _ in range(whole):
        sha.update(BLOCK)
    sha.update(BLOCK[:rest])
    return base64.b64encode(sha.digest()).decode()


async def page(size: int, _: web.Request) -> web.Response:
    text = PAGE % {"digest": digest(size), "ms": EVERY * 1000}
    return web.Response(text=text, content_type="text/html")


async def large(size: int, request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": str(size)})
    await response.prepare(request)
    left = size
    while left:
        piece = BLOCK[: min(left, len(BLOCK))]
        await response.write(piece)
        left -= len(piece)
    return response


async def small(request: web.Request) -> web.Response:
    """As many bytes as the path says: for who looks whether anything comes through."""
    return web.Response(body=bytes(int(request.match_info["count"])))


async def echo(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
    return socket


async def events(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    number = 0
    while True:
        await response.write(b"data: %d\n\n" % number)
        number += 1
        await asyncio.sleep(EVERY)


async def report(request: web.Request) -> web.Response:
    print(await request.text(), flush=True)
    return web.Response()


async def probe(_: web.Request) -> web.Response:
    return web.Response(status=204)


def main(port: int, size: int) -> None:
    app = web.Application()
    app.add_routes(
        [
            web.get("/", partial(page, size)),
            web.get("/large", partial(large, size)),
            web.get("/echo", echo),
            web.get("/events", events),
            web.post("/report", report),
            web.get("/generate_204", probe),
            web.get(r"/{count:\d{1,5}}", small),
        ]
    )
    web.run_app(app, host=HOST, port=port, print=None, access_log=None)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
