"""Opens compressed certificates (RFC 8879); raises Fault.

Each way has a library, imported when a server uses it.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable
from typing import Any

from circumvent.wire.tls13.codes import MESSAGE_HEADER, Alert, Message
from circumvent.wire.tls13.faults import Fault
from circumvent.wire.tls13.messages import MAX_MESSAGE
from circumvent.wire.tls13.reader import Reader, u8, vector24

_ZSTD_MODULES = ("compression.zstd", "backports.zstd")  # the first one is Python's, from 3.14 on
_ZSTD_WINDOW = 23  # RFC 8878 §3.1.1.1.2: who decompresses need give no more than 2**23 bytes


def decompress(message: bytes, offered: tuple[int, ...]) -> bytes:
    """The Certificate message that a CompressedCertificate message holds, with a header."""
    reader = Reader(message[MESSAGE_HEADER:], "compressed certificate")
    kind, size, packed = reader.number(2), reader.number(3), reader.vector(3, at_least=1)
    reader.end()
    if kind not in offered:
        raise Fault(Alert.ILLEGAL_PARAMETER, "the certificate is compressed as we did not offer")
    if size > MAX_MESSAGE:
        raise Fault(Alert.BAD_CERTIFICATE, f"the server announced {size} bytes of certificates")
    body = _unpack(kind, packed, size)
    if len(body) != size:
        raise Fault(Alert.BAD_CERTIFICATE, "the compressed certificate is not as long as it says")
    return u8(Message.CERTIFICATE) + vector24(body)


def _unpack(kind: int, packed: bytes, size: int) -> bytes:
    """At most a little more than ``size`` bytes, whatever is packed."""
    try:
        return _UNPACKERS[kind](packed, size + 1)
    except ImportError as error:
        raise Fault(
            Alert.BAD_CERTIFICATE,
            f"the certificate is compressed, and the library {error.name} is not installed",
        ) from None
    except Exception:  # noqa: BLE001 - each library has an error of its own
        raise Fault(Alert.BAD_CERTIFICATE, "the compressed certificate is broken") from None


def _zlib(packed: bytes, limit: int) -> bytes:
    inflater = zlib.decompressobj()
    return inflater.decompress(packed, limit)


def _brotli(packed: bytes, limit: int) -> bytes:
    brotli: Any = importlib.import_module("brotli")
    output: bytes = brotli.Decompressor().process(packed, output_buffer_limit=limit)
    return output


def _zstd(packed: bytes, limit: int) -> bytes:
    zstd = _zstd_module()
    bound = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW}
    output: bytes = zstd.ZstdDecompressor(options=bound).decompress(packed, limit)
    return output


def _zstd_module() -> Any:  # noqa: ANN401 - which one it is shows only at run time
    for name in _ZSTD_MODULES:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ImportError(name="backports.zstd")


_UNPACKERS: dict[int, Callable[[bytes, int], bytes]] = {1: _zlib, 2: _brotli, 3: _zstd}
