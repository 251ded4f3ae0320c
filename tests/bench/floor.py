"""The floor: what no client in user space goes below, in CPU seconds per GiB on this machine."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

GIB = 1 << 30
BLOCK = 256 * 1024
RECORD = 16 * 1024
_TAG = 16


def copying() -> float:
    """From one socket to another through memory, with nothing else done."""
    block = memoryview(bytearray(BLOCK))
    with _far_end(_feed) as source, _far_end(_drain) as sink:
        started = time.process_time()
        while count := source.recv_into(block):
            sink.sendall(block[:count])
        return time.process_time() - started


def sealing() -> float:
    """AES-128-GCM over records of TLS, in place."""
    cipher, nonce = AESGCM(bytes(16)), bytes(12)
    block = memoryview(bytearray(RECORD + _TAG))
    started = time.process_time()
    for _ in range(GIB // RECORD):
        cipher.encrypt_into(nonce, block[:RECORD], None, block)
    return time.process_time() - started


def _feed(sock: socket.socket) -> None:
    block = bytes(BLOCK)
    for _ in range(GIB // BLOCK):
        sock.sendall(block)


def _drain(sock: socket.socket) -> None:
    block = bytearray(BLOCK)
    while sock.recv_into(block):
        pass


@contextmanager
def _far_end(work: Callable[[socket.socket], None]) -> Iterator[socket.socket]:
    """Our end of a connection whose other end is at ``work`` in another process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        child = os.fork()
        if not child:
            try:
                work(listener.accept()[0])
            finally:
                os._exit(0)
        with socket.create_connection(listener.getsockname()) as near:
            yield near
    os.waitpid(child, 0)
