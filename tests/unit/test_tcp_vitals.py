"""What the kernel tells of a path: one that answers, and one where every packet is dropped."""

from __future__ import annotations

from circumvent.api.streams import Vitals
from circumvent.net.tcp import TcpStream
from circumvent.testing.steps import write_all
from tests.peers.censors import freeze_flow
from tests.unit.local_sockets import connected_pair, until


def vitals(stream: TcpStream) -> Vitals:
    found = stream.vitals()
    assert found is not None
    return found


async def test_a_path_that_froze_leaves_the_kernel_unanswered() -> None:
    near, far = await connected_pair()
    stream = TcpStream(near)
    freeze_flow(far)
    await write_all(stream, b"is anybody there?")
    await until(lambda: vitals(stream).unanswered > 0)
    assert vitals(stream).silence > 0.0
    stream.abort()
    far.close()


async def test_one_that_is_quiet_answers_when_it_is_asked() -> None:
    near, far = await connected_pair()
    stream = TcpStream(near)
    await write_all(stream, b"hello")
    await until(lambda: vitals(stream).silence > 0.05)
    stream.ask_for_sign(wanted=True)
    await until(lambda: vitals(stream).silence < 0.05)
    assert vitals(stream).unanswered == 0
    stream.abort()
    far.close()


async def test_a_stream_that_was_closed_tells_nothing() -> None:
    near, far = await connected_pair()
    stream = TcpStream(near)
    stream.abort()
    assert stream.vitals() is None
    far.close()
