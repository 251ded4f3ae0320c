"""The small parts of a session's engine: blocks, credit, the table of streams, whose turn it is."""

from __future__ import annotations

import pytest

from circumvent.errors import ProtocolError
from circumvent.memory import PAGE, SMALLEST_ARENA, Account, Memory
from circumvent.session.engine.blocks import Blocks
from circumvent.session.engine.carrier import EngineCarrier
from circumvent.session.engine.credit import ReceiveCredit, SendCredit
from circumvent.session.engine.limits import FIRST_CREDIT, FIRST_WINDOW, SessionLimits
from circumvent.session.engine.scheduler import Scheduler
from circumvent.session.engine.stream import EngineStream, Frame
from circumvent.session.engine.stream_table import StreamTable
from circumvent.session.engine.useless_frames import UselessFrames
from circumvent.wire.frames import MAX_FRAME

NOW = 100.0
RTT = 0.02
KIB = 1024


@pytest.fixture
def account() -> Account:
    return Memory(2 * SMALLEST_ARENA).account("session")


class TestBlocks:
    def test_a_block_is_as_large_as_it_must_be(self, account: Account) -> None:
        blocks = Blocks(account, 1 << 20)
        sizes = [1, PAGE, PAGE + 1, MAX_FRAME, MAX_FRAME + 1, 2 * MAX_FRAME + 1]
        leases = [blocks.take(size) for size in sizes]
        assert [len(lease.view) // KIB for lease in leases if lease] == [4, 4, 16, 16, 32, 64]
        assert blocks.used == account.held == 136 * KIB
        assert blocks.free == (1 << 20) - 136 * KIB

    def test_there_is_a_limit(self, account: Account) -> None:
        blocks = Blocks(account, MAX_FRAME)
        lease = blocks.take(MAX_FRAME)
        assert lease is not None
        assert (blocks.take(1), blocks.free, blocks.is_dry) == (None, 0, False)
        blocks.give(lease)
        assert (blocks.free, account.held) == (MAX_FRAME, 0)

    def test_where_others_have_the_memory_nothing_is_hoped_for_until_some_comes_back(
        self, account: Account
    ) -> None:
        blocks = Blocks(account, 1 << 20)
        lease = blocks.take(1)
        others = list(iter(lambda: account.try_hold(PAGE), None))
        assert blocks.take(4 * MAX_FRAME) is None
        assert not blocks.is_dry, "a frame may still fit"
        assert blocks.take(MAX_FRAME) is None
        assert (blocks.is_dry, blocks.free) == (True, 0)
        blocks.retry()
        assert (blocks.is_dry, blocks.take(MAX_FRAME), blocks.is_dry) == (False, None, True)
        assert lease is not None
        blocks.give(lease)
        assert (blocks.is_dry, blocks.free) == (False, 1 << 20)
        assert len(others) > 1


class TestCredit:
    def test_it_is_granted_anew_when_a_quarter_was_read(self) -> None:
        credit = ReceiveCredit(256 * KIB)
        assert credit.grant() == 256 * KIB
        credit.receive(100 * KIB)
        credit.consumed = 63 * KIB
        assert credit.grant() is None
        credit.consumed = 65 * KIB
        assert credit.grant() == 321 * KIB
        credit.extra = 64 * KIB
        assert credit.grant() == 385 * KIB

    def test_it_is_exhausted_when_less_than_a_quarter_is_left(self) -> None:
        credit = ReceiveCredit(256 * KIB)
        credit.grant()
        exhausted = []
        for count in (191 * KIB, 2 * KIB):
            credit.receive(count)
            exhausted.append(credit.is_exhausted)
        assert exhausted == [False, True]
        assert credit.free == 63 * KIB

    def test_more_than_was_granted_is_a_lie(self) -> None:
        credit = ReceiveCredit(256 * KIB)
        credit.receive(FIRST_CREDIT)
        with pytest.raises(ProtocolError, match="granted"):
            credit.receive(1)

    def test_a_new_stream_among_many_may_be_sent_less_at_once(self) -> None:
        credit = ReceiveCredit(1 << 20)
        windows = [credit.first_window(streams) for streams in (0, 2, 6, 1000)]
        assert windows == [1024 * KIB, 512 * KIB, 256 * KIB, 16 * KIB]
        assert ReceiveCredit(8 << 20).first_window(0) == 1024 * KIB

    def test_a_stream_may_be_sent_twice_as_much_again_as_was_read(self) -> None:
        credit = ReceiveCredit(1 << 20)
        assert credit.stream_limit(0, 16 * KIB) is None
        assert credit.stream_limit(100 * KIB, 64 * KIB) == 300 * KIB
        assert credit.stream_limit(100 * KIB, 290 * KIB) is None
        assert credit.stream_limit(900 * KIB, 900 * KIB) == (900 + 768) * KIB

    def test_the_peers_word_only_raises_what_may_be_sent(self) -> None:
        credit = SendCredit()
        assert credit.free == FIRST_CREDIT
        assert (credit.raise_to(FIRST_CREDIT), credit.raise_to(FIRST_CREDIT + 9)) == (False, True)
        credit.spent = 10
        assert (credit.raise_to(5), credit.free) == (False, FIRST_CREDIT - 1)

    def test_a_session_is_sure_of_what_it_grants_and_of_a_little_to_send(self) -> None:
        assert SessionLimits(send=1 << 20, receive=1 << 20).sure == 512 * KIB + 128 * KIB
        limits = [SessionLimits.beside(arena) for arena in (1 << 20, 8 << 20, 1 << 30)]
        assert [limit.send // KIB for limit in limits] == [128, 1024, 2048]
        assert [limit.receive // KIB for limit in limits] == [256, 2048, 4096]


class TestStreams:
    def test_the_clients_are_odd_and_the_relays_even(self) -> None:
        client, relay = (StreamTable(4, is_client=is_client) for is_client in (True, False))
        assert [client.open(1).number for _ in range(2)] == [1, 3]
        assert [relay.open(1).number for _ in range(2)] == [2, 4]

    @pytest.mark.parametrize("is_client", [True, False])
    def test_a_number_of_the_peers_opens_all_below_it(self, *, is_client: bool) -> None:
        table = StreamTable(4, is_client=is_client)
        first = 2 if is_client else 1
        stream = table.find(first + 4)
        assert stream is not None
        assert (stream.number, stream.granted, len(table), table.theirs) == (
            first + 4,
            FIRST_WINDOW,
            3,
            3,
        )
        assert table.find(first + 4) is stream
        for _ in range(2):
            table.retire(stream)
        assert (table.theirs, table.find(first + 4)) == (2, None)
        assert [each.number for each in table] == [first, first + 2]

    def test_ours_are_not_counted_as_the_peers(self) -> None:
        table = StreamTable(4, is_client=True)
        table.retire(table.open(1))
        assert (table.theirs, table.find(1)) == (0, None)
        with pytest.raises(ProtocolError, match="never opened"):
            table.find(3)

    def test_a_peer_may_open_twice_the_limit_before_it_hears_of_closes(self) -> None:
        table = StreamTable(4, is_client=False)
        assert table.find(15) is not None
        with pytest.raises(ProtocolError, match="too many streams"):
            table.find(17)


def test_useless_frames_are_forgiven_with_time() -> None:
    frames = UselessFrames(NOW)
    for _ in range(8192):
        frames.count(NOW)
    for _ in range(2000):
        frames.count(NOW + 1.0)
    with pytest.raises(ProtocolError, match="flood"):
        frames.count(NOW + 1.0)
    for _ in range(8192):
        frames.count(NOW + 1000.0)
    with pytest.raises(ProtocolError, match="flood"):
        frames.count(NOW + 1000.0)


class Queue:
    """A scheduler with streams of full frames; what is taken is noted as (stream, frame)."""

    def __init__(self, *, streams: int = 1, frames: int = 4, size: int = MAX_FRAME) -> None:
        self.scheduler = Scheduler()
        self.streams = [EngineStream(number, 0, 0) for number in range(streams)]
        self.frames: dict[Frame, tuple[int, int]] = {}
        for index in range(frames):
            for stream in self.streams:
                frame = Frame(stream, bytes(size), None)
                self.frames[frame] = stream.number, index
                self.scheduler.push(stream, frame)

    def take(
        self, carrier: EngineCarrier, *others: EngineCarrier, now: float = NOW, room: int = 1 << 20
    ) -> list[tuple[int, int]]:
        before = len(carrier.frames)
        view = memoryview(bytearray(room))
        self.scheduler.fill(carrier, (carrier, *others), view, 0, now)
        return [self.frames[frame] for frame in list(carrier.frames)[before:]]


def carrier(number: int = 1, rtt: float = RTT, rate: float = 2e6) -> EngineCarrier:
    made = EngineCarrier(number, rtt, NOW)
    made.estimate.rate = rate
    return made


class TestScheduler:
    def test_frames_go_in_order_as_far_as_there_is_room_and_allowance(self) -> None:
        queue, only = Queue(), carrier()
        assert queue.take(only, room=2 * MAX_FRAME + 1) == [(0, 0), (0, 1)]
        assert queue.scheduler.size == 2 * MAX_FRAME
        only.estimate.cap = MAX_FRAME
        assert queue.take(only) == [(0, 2)]
        only.launch(MAX_FRAME, NOW, is_bound_by_path=True)
        assert not queue.scheduler.has_work(only, (only,), NOW)
        assert queue.take(only) == []
        only.acknowledge(MAX_FRAME)
        assert queue.scheduler.has_work(only, (only,), NOW)
        assert queue.take(only) == [(0, 3)]
        assert not queue.scheduler.has_work(only, (only,), NOW)
        assert queue.scheduler.size == 0

    def test_one_frame_always_may_go_if_none_is_on_the_way(self) -> None:
        queue, only = Queue(), carrier()
        only.estimate.cap = 1
        assert queue.take(only) == [(0, 0)]

    def test_streams_take_turns(self) -> None:
        queue, only = Queue(streams=2, frames=2), carrier()
        assert queue.take(only) == [(0, 0), (1, 0), (0, 1), (1, 1)]

    def test_a_turn_is_what_the_path_brings_in_five_milliseconds(self) -> None:
        queue, only = Queue(streams=2, frames=2), carrier(rate=2 * MAX_FRAME / 0.005)
        assert queue.take(only) == [(0, 0), (0, 1), (1, 0), (1, 1)]

    def test_a_frame_that_comes_back_goes_first(self) -> None:
        queue, only = Queue(streams=1, frames=2), carrier()
        queue.take(only, room=MAX_FRAME)
        for frame in only.frames:
            queue.scheduler.push_back(frame, queue.streams[0])
        assert queue.scheduler.size == 2 * MAX_FRAME
        assert queue.take(only) == [(0, 0), (0, 1)]

    def test_what_is_settled_is_not_sent_again(self) -> None:
        queue, only = Queue(frames=3), carrier()
        list(queue.frames)[1].is_settled = True
        assert queue.take(only) == [(0, 0), (0, 2)]
        assert queue.scheduler.size == 0

    def test_a_stream_that_is_dropped_leaves_the_others(self) -> None:
        queue, only = Queue(streams=2, frames=2), carrier()
        assert len(list(queue.scheduler.drop(queue.streams[0]))) == 2
        assert list(queue.scheduler.drop(queue.streams[0])) == []
        assert queue.scheduler.size == 2 * MAX_FRAME
        assert queue.take(only) == [(1, 0), (1, 1)]

    def test_a_slow_carrier_leaves_to_a_fast_one_what_that_delivers_meanwhile(self) -> None:
        slow, fast = carrier(1, 0.1, 1e6), carrier(2, 0.02, 1e6)
        ahead = int((0.04 + 0.002) * 1e6) // MAX_FRAME + 1  # frames, in half a round trip more
        queue = Queue(frames=ahead + 2)
        assert queue.scheduler.has_work(slow, (slow, fast), NOW)
        assert queue.take(slow, fast, room=MAX_FRAME) == [(0, ahead)]
        assert queue.take(fast, slow, room=MAX_FRAME) == [(0, 0)]

    def test_a_slow_carrier_with_nothing_useful_to_do_waits(self) -> None:
        slow, fast = carrier(1, 0.1, 1e6), carrier(2, 0.02, 1e6)
        queue = Queue(frames=2)
        assert not queue.scheduler.has_work(slow, (slow, fast), NOW)
        assert queue.take(slow, fast) == []
        assert slow.declined_until == pytest.approx(NOW + 0.001)
        assert queue.scheduler.has_work(fast, (slow, fast), NOW)

    def test_a_fast_carrier_that_takes_nothing_is_slow(self) -> None:
        slow, fast = carrier(1, 0.1, 1e6), carrier(2, 0.02, 1e6)
        queue = Queue(frames=2)
        queue.scheduler.has_work(fast, (slow, fast), NOW)
        queue.scheduler.has_work(slow, (slow, fast), NOW)
        assert queue.scheduler.has_work(slow, (slow, fast), NOW + 0.5)
