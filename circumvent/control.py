"""The local control socket: ``circumvent status`` asks the running client here.

A Unix socket of mode 0600, no TCP port. One line of JSON asks, one line of JSON answers.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal, TypeVar

import msgspec
from msgspec import Struct

from circumvent.errors import ConfigError, LocalError
from circumvent.status import Status
from circumvent.tunnels.database import claim_directory

SOCKET_MODE = 0o600
MAX_REQUEST = 4096  # a request is one short word
MAX_ANSWER = 1 << 20  # hundreds of tunnels fit
ANSWER_SECONDS = 5.0  # the client answers from memory; longer means that it hangs
BACKLOG = 8

T = TypeVar("T")

_NOTHING = msgspec.Raw(b"null")


class Request(Struct, frozen=True, forbid_unknown_fields=True):
    """What can be asked."""

    command: Literal["status"]


class Answer(Struct, frozen=True):
    """Either the status, in JSON, or what was wrong with the request."""

    status: msgspec.Raw = _NOTHING
    error: str = ""


@asynccontextmanager
async def serve(path: Path, status: Callable[[], object]) -> AsyncIterator[None]:
    """Answer requests at ``path`` while the context lasts.

    Raises ConfigError when the socket cannot be made; its ``errno`` is EADDRINUSE when another
    client answers there.
    """

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, TimeoutError, ValueError):  # ValueError: the line is too long
            async with asyncio.timeout(ANSWER_SECONDS):
                writer.write(_answer(await reader.readline(), status))
                await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(handle, sock=_listen(path), limit=MAX_REQUEST)
    try:
        yield
    finally:
        server.close()
        _remove(path)


def ask(path: Path) -> Status:
    """The running client's status; raises LocalError when there is none."""
    return inquire(path, Status, "circumvent run")


def inquire(path: Path, kind: type[T], command: str) -> T:
    """The status of what ``command`` starts; raises LocalError when nothing answers."""
    try:
        line = _exchange(path, msgspec.json.encode(Request("status")) + b"\n")
        answer = msgspec.json.decode(line, type=Answer)
        if answer.status != _NOTHING:
            return msgspec.json.decode(answer.status, type=kind)
    except (OSError, msgspec.DecodeError) as error:
        message = f"{command.partition(' ')[0]} is not running; start it with: {command}"
        if not isinstance(error, FileNotFoundError | ConnectionRefusedError):
            message = f"circumvent did not answer at {path}: {error}"
        raise LocalError(message, stage="control") from error
    raise LocalError(f"circumvent refused to answer: {answer.error}", stage="control")


def _answer(line: bytes, status: Callable[[], object]) -> bytes:
    try:
        msgspec.json.decode(line, type=Request)
    except msgspec.DecodeError as error:
        return msgspec.json.encode(Answer(error=str(error))) + b"\n"
    return msgspec.json.encode(Answer(msgspec.Raw(msgspec.json.encode(status())))) + b"\n"


def _listen(path: Path) -> socket.socket:
    try:
        claim_directory(path.parent)
        if _is_answered(path):
            message = "another circumvent is running here; choose another --state-dir"
            raise ConfigError(message, stage="control", errno=errno.EADDRINUSE)
        _remove(path)
        return _bind(path)
    except OSError as error:
        message = f"the control socket {path} cannot be made: {error}; choose another --state-dir"
        raise ConfigError(message, stage="control", errno=error.errno) from error


def _bind(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        listener.bind(str(path))
        path.chmod(SOCKET_MODE)  # nobody can connect before ``listen``
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _is_answered(path: Path) -> bool:
    try:
        _connect(path).close()
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    return True


def _exchange(path: Path, request: bytes) -> bytes:
    with _connect(path) as connection, connection.makefile("rb") as reader:
        connection.sendall(request)
        return reader.readline(MAX_ANSWER)


def _connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(ANSWER_SECONDS)
    try:
        connection.connect(str(path))
    except OSError:
        connection.close()
        raise
    return connection
