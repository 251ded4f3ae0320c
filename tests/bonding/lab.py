"""A relay and an origin in one process: ``python -m tests.bonding.lab CHAIN KEY``.

Prints its port. The origin answers a line with a number by so many bytes.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys

from circumvent.errors import CircumventError
from circumvent.layers.tls.openssl import accept_tls
from circumvent.memory import Memory
from circumvent.net.sockets import SocketBuffers, prepare
from circumvent.net.tcp import TcpStream, connect
from circumvent.session.engine.limits import SessionLimits
from circumvent.session.host import SessionHost
from circumvent.wire.address import Destination

BLOCK = bytes(range(256)) * 1024


async def origin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    left = int(await reader.readline())
    try:
        while left:
            writer.write(BLOCK[:left])
            left -= min(left, len(BLOCK))
            await writer.drain()
        writer.write_eof()
        await reader.read()
    except OSError:
        pass
    finally:
        writer.close()


async def main(chain: str, key: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    account = Memory(32 << 20).account("sessions")
    server = await asyncio.start_server(origin, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async def opened(_: str, __: Destination) -> TcpStream:
        return await connect("127.0.0.1", port)

    host = SessionHost(account, SessionLimits(), lambda *_: "user", opened)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    print(listener.getsockname()[1], flush=True)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    accepting = loop.create_task(accept(listener, context, host))
    await reader.read()
    accepting.cancel()
    await host.aclose()


async def accept(listener: socket.socket, context: ssl.SSLContext, host: SessionHost) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        while True:
            sock, _ = await loop.sock_accept(listener)
            prepare(sock, SocketBuffers())
            group.create_task(serve(TcpStream(sock), context, host))


async def serve(stream: TcpStream, context: ssl.SSLContext, host: SessionHost) -> None:
    try:
        secure = await accept_tls(stream, context)
    except CircumventError:
        return
    await host.serve_carrier(secure, secure.channel_binding())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
