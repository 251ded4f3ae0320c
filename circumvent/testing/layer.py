"""What every layer of one stream promises. Inherit from ``LayerContract``."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from circumvent.api import ByteStream, Cost, DialError, StreamLayer
from circumvent.net.tcp import TcpStream
from circumvent.testing.byte_stream import ByteStreamContract
from circumvent.testing.far_end import Codec, FarEnd, connected
from circumvent.testing.steps import Pair

KERNEL_BUFFER = 32 * 1024
RECEIVE_BUFFER = 256 * 1024


class LayerContract(ByteStreamContract):
    """The promises of ``circumvent.api.StreamLayer``, and those of the stream that it gives.

    Provide ``layer``, a fixture with the layer under test, and ``codec``, one with the other end
    of it. Where the protocol has records inherit from ``RecordContract`` too, and from
    ``AnnouncedEndContract`` where it announces its end.
    """

    def below(self, sock: socket.socket) -> ByteStream:
        """What the layer goes over: a connection, or what stands for one."""
        return TcpStream(sock)

    @pytest.fixture
    async def pair(self, layer: StreamLayer, codec: Codec) -> AsyncIterator[Pair]:
        near, far = connected(small=KERNEL_BUFFER, receive=RECEIVE_BUFFER)
        peer = FarEnd(far, codec)
        async with asyncio.TaskGroup() as group:
            group.create_task(peer.shake_hands())
            started = group.create_task(layer.start(self.below(near)))
        pair = Pair(started.result(), peer)
        yield pair
        pair.near.abort()
        peer.close()

    def test_its_cost_is_known_before_a_dial(self, layer: StreamLayer) -> None:
        assert isinstance(layer.cost, Cost)
        assert min(layer.cost.dial, layer.cost.stream) >= 0

    async def test_a_dial_that_fails_is_not_hidden(self, layer: StreamLayer) -> None:
        async def dial() -> ByteStream:
            raise DialError("nothing can be reached in this test", stage="tcp")

        with pytest.raises(DialError):
            await layer.over(dial)()

    async def test_each_dial_gives_a_stream_of_its_own(
        self, layer: StreamLayer, codec: Codec
    ) -> None:
        near, far = connected(small=KERNEL_BUFFER, receive=RECEIVE_BUFFER)
        below, peer = self.below(near), FarEnd(far, codec)

        async def dial() -> ByteStream:
            return below

        async with asyncio.TaskGroup() as group:
            group.create_task(peer.shake_hands())
            dialled = asyncio.ensure_future(layer.over(dial)())
        stream = await dialled
        assert stream is not below
        assert stream.route is below.route.inside, "it does not say how its connection went out"
        stream.abort()
        peer.close()
