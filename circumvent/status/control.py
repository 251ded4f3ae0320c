"""The local control socket, on which ``circumvent status`` asks the running client.

A Unix socket of mode 0600, no TCP port. One line of JSON asks, one line of JSON answers.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Literal, TypeVar

import msgspec
from msgspec import Struct

from circumvent.errors import ConfigError, LocalError
from circumvent.status.snapshot import Status
from circumvent.typed_toml import make_private

SOCKET_MODE = 0o600
MAX_ADDRESS = 107  # bytes; unix(7) has room for one more, which ends it
MAX_REQUEST = 4096  # a request is one short word
MAX_ANSWER = 1 << 20  # hundreds of tunnels fit
ANSWER_SECONDS = 5.0  # the client answers from memory; a slower one hangs
BACKLOG = 8

T = TypeVar("T")

_NOTHING = msgspec.Raw(b"null")


class ControlRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """What can be asked."""

    command: Literal["status"]


class ControlAnswer(Struct, frozen=True):
    """Either the status, in JSON, or what was wrong with the request."""

    status: msgspec.Raw = _NOTHING
    error: str = ""


@asynccontextmanager
async def serve(
    places: Sequence[Path], status: Callable[[], object], warn: Callable[[str], None]
) -> AsyncIterator[None]:
    """Answer requests at the first of ``places`` where a socket can be made.

    Where none can be made, ``warn`` is told, and the status cannot be asked for. Raises
    ConfigError, with the errno EADDRINUSE, when another client answers at one of them.
    """

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, TimeoutError, ValueError):  # ValueError: the line is too long
            async with asyncio.timeout(ANSWER_SECONDS):
                writer.write(_answer(await reader.readline(), status))
                await writer.drain()
        writer.close()

    if any(map(_is_answered, places)):
        raise ConfigError(
            "another circumvent is running here; choose another --state-dir",
            stage="control",
            errno=errno.EADDRINUSE,
        )
    with ExitStack() as stack:
        listener = _listen(places, stack, warn)
        if listener is None:
            yield
            return
        server = await asyncio.start_unix_server(handle, sock=listener, limit=MAX_REQUEST)
        try:
            yield
        finally:
            server.close()


def ask(places: Sequence[Path]) -> Status:
    """The running client's status; raises LocalError when there is none."""
    return ask_for(places, Status, "circumvent run")


def ask_for(places: Sequence[Path], kind: type[T], command: str) -> T:
    """The status of what ``command`` starts; raises LocalError when nothing answers."""
    try:
        line = _exchange(places, msgspec.json.encode(ControlRequest("status")) + b"\n")
        answer = msgspec.json.decode(line, type=ControlAnswer)
        if answer.status != _NOTHING:
            return msgspec.json.decode(answer.status, type=kind)
    except (OSError, msgspec.DecodeError) as error:
        message = f"{command.partition(' ')[0]} is not running; start it with: {command}"
        if not isinstance(error, FileNotFoundError | ConnectionRefusedError):
            message = f"circumvent did not answer at {places[-1]}: {error}"
        raise LocalError(message, stage="control") from error
    raise LocalError(f"circumvent refused to answer: {answer.error}", stage="control")


def _answer(line: bytes, status: Callable[[], object]) -> bytes:
    try:
        msgspec.json.decode(line, type=ControlRequest)
    except msgspec.DecodeError as error:
        return msgspec.json.encode(ControlAnswer(error=str(error))) + b"\n"
    return msgspec.json.encode(ControlAnswer(msgspec.Raw(msgspec.json.encode(status())))) + b"\n"


def _listen(
    places: Sequence[Path], stack: ExitStack, warn: Callable[[str], None]
) -> socket.socket | None:
    """A socket at the first place where one can be made; ``stack`` removes it again."""
    for path in places:
        try:
            make_private(path.parent)
            path.unlink(missing_ok=True)  # left by a client that was killed
            listener = _bind(stack.enter_context(_short(path)), path)
        except OSError as error:
            trouble = f"the control socket {path} cannot be made: {error}"
        else:
            stack.callback(_remove, path)
            return listener
    warn(f"{trouble}; circumvent status will not work")
    return None


def _bind(name: str, path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        listener.bind(name)
        path.chmod(SOCKET_MODE)  # no client can connect before ``listen``
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name of ``path`` that fits the address of a socket; raises OSError."""
    if len(os.fsencode(path)) <= MAX_ADDRESS:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def _remove(path: Path) -> None:
    with suppress(OSError):  # the directory may be read-only; the next start replaces it
        path.unlink(missing_ok=True)


def _is_answered(path: Path) -> bool:
    try:
        _connect(path).close()
    except (BlockingIOError, TimeoutError):  # a client is there, and busy
        return True
    except OSError:
        return False
    return True


def _exchange(places: Sequence[Path], request: bytes) -> bytes:
    with _connect_any(places) as connection, connection.makefile("rb") as reader:
        connection.sendall(request)
        return reader.readline(MAX_ANSWER)


def _connect_any(places: Sequence[Path]) -> socket.socket:
    for path in places[:-1]:
        with suppress(OSError):
            return _connect(path)
    return _connect(places[-1])


def _connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(ANSWER_SECONDS)
    try:
        with _short(path) as name:
            connection.connect(name)
    except OSError:
        connection.close()
        raise
    return connection
