"""What a user of the session engine may rely on, in simulated time."""

from __future__ import annotations

import gc
import math
import random
import tracemalloc

import pytest

from circumvent.session.engine.carrier import CarrierState
from circumvent.session.engine.limits import STALLED_AFTER, SessionLimits
from circumvent.session.engine.stream import EngineStream, Receiving, Sending
from circumvent.wire.frames import CloseReason, ResetReason
from tests.bonding.simulation import World, read_some

DATA = random.Random(1).randbytes(3 << 20)
IDLE_STREAM = 400  # bytes


def opened(world: World, opening: bytes = b"somewhere") -> tuple[EngineStream, EngineStream]:
    """A stream of the client's, and the same at the relay."""
    near = world.client.engine.open(opening)
    world.client.engine.sender.announce(near)
    world.run(0.5)
    ((far, heard),) = world.relay.engine.state.accepted
    world.relay.engine.state.accepted.clear()
    assert heard == opening
    return near, far


def download(
    world: World, far: EngineStream, near: EngineStream, size: int, limit: float = 30.0
) -> bytes:
    """Let the relay send ``size`` bytes and the client read them."""
    sent, got = 0, b""
    until = world.now + limit
    while len(got) < size and world.now < until:
        sent += world.relay.engine.write(far, memoryview(DATA)[sent : min(size, sent + 65536)])
        world.run(0.005)
        got += read_some(world.client, near, 1 << 20, world.now)
    return got


def test_data_may_follow_at_once_when_a_stream_is_opened() -> None:
    world = World()
    world.attach(delay=0.1)
    stream = world.client.engine.open(b"there")
    assert world.client.engine.write(stream, memoryview(b"first words")) == 11
    world.run(0.11)
    ((far, opening),) = world.relay.engine.state.accepted
    assert opening == b"there"
    assert read_some(world.relay, far, 100, world.now) == b"first words"


def test_an_end_goes_one_way_only() -> None:
    world = World()
    world.attach()
    near, far = opened(world)
    world.client.engine.sender.end(near)
    world.run(0.1)
    assert far.is_at_end
    world.relay.engine.write(far, memoryview(b"still talking"))
    world.run(0.1)
    assert read_some(world.client, near, 100, world.now) == b"still talking"


def test_a_stream_whose_answer_nobody_wants_is_opened_before_it_is_stopped() -> None:
    world = World()
    world.attach()
    near = world.client.engine.open(b"somewhere")
    world.client.engine.state.stop(near)
    world.run(0.5)
    ((far, opening),) = world.relay.engine.state.accepted
    assert opening == b"somewhere"
    assert far.sending is Sending.CUT


def test_a_stream_that_both_ended_is_forgotten() -> None:
    world = World()
    world.attach()
    near, far = opened(world)
    world.client.engine.sender.end(near)
    world.relay.engine.sender.end(far)
    world.run(0.5)
    assert len(world.client.engine.state.streams) == len(world.relay.engine.state.streams) == 0


@pytest.mark.parametrize("reason", list(ResetReason))
def test_the_peer_learns_why_a_stream_was_cut(reason: ResetReason) -> None:
    world = World()
    world.attach()
    near, far = opened(world)
    world.relay.engine.state.abort(far, reason)
    world.run(0.1)
    assert near.receiving is Receiving.CUT
    assert near.sending is Sending.CUT
    assert near.reason is reason


def test_a_waiting_reader_is_woken() -> None:
    world = World()
    world.attach()
    near, far = opened(world)
    near.waits_to_read = True
    world.relay.engine.write(far, memoryview(b"x"))
    world.run(0.1)
    assert world.client.engine.state.woken == [near]


def test_a_writer_waits_for_its_reader_and_is_woken_by_it() -> None:
    world = World()
    world.attach()
    near, far = opened(world)
    while world.relay.engine.write(far, memoryview(DATA)[:65536]):
        world.run(0.1)
    world.relay.engine.sender.wait(far)
    world.run(1.0)
    assert world.relay.engine.state.woken == []
    read_some(world.client, near, 1 << 20, world.now)
    world.run(0.1)
    assert world.relay.engine.state.woken == [far]


def test_bandwidth_adds_up() -> None:
    world = World()
    for _ in range(3):
        world.attach(rate=1e6, delay=0.03)
    near, far = opened(world)
    started = world.now
    assert download(world, far, near, len(DATA)) == DATA
    assert world.now - started < 1.25 * len(DATA) / 3e6 + 0.1


def test_a_carrier_that_breaks_takes_nothing_with_it() -> None:
    world = World()
    for delay in (0.01, 0.03):
        world.attach(rate=2e6, delay=delay)
    near, far = opened(world)
    assert download(world, far, near, 1 << 20) == DATA[: 1 << 20]
    world.kill(next(iter(world.links.values())))
    assert download(world, far, near, len(DATA)) == DATA


def test_a_frozen_carrier_is_suspected_and_its_frames_go_elsewhere() -> None:
    world = World()
    links = [world.attach(rate=2e6, delay=delay) for delay in (0.01, 0.03)]
    near, far = opened(world)
    download(world, far, near, 1 << 20)
    world.freeze(links[0])
    started = world.now
    world.relay.engine.write(far, memoryview(b"x" * 200_000))
    got = b""
    while len(got) < 200_000:
        world.run(0.01)
        got += read_some(world.client, near, 1 << 20, world.now)
        assert world.now - started < 0.6
    assert world.relay.carriers[1].state is CarrierState.SUSPECT


def test_suspicion_passes_when_the_carrier_moves_again() -> None:
    world = World()
    links = [world.attach(rate=2e6, delay=delay) for delay in (0.01, 0.03)]
    near, far = opened(world)
    download(world, far, near, 1 << 20)
    world.freeze(links[0])
    world.relay.engine.write(far, memoryview(b"x" * 100_000))
    world.run(0.5)
    world.thaw(links[0])
    world.run(0.5)
    assert world.relay.carriers[1].state is CarrierState.UP


def test_when_all_are_silent_none_is_killed() -> None:
    world = World()
    links = [world.attach(rate=2e6, delay=delay) for delay in (0.01, 0.03)]
    near, far = opened(world)
    download(world, far, near, 1 << 20)
    for link in links:
        world.freeze(link)
    world.relay.engine.write(far, memoryview(b"x" * 100_000))
    world.run(6.0)
    assert len(world.relay.engine.carriers.live) == 2
    for link in links:
        world.thaw(link)
    world.run(1.0)
    assert read_some(world.client, near, 1 << 20, world.now)[-1:] == b"x"


@pytest.mark.parametrize("jitter", [0.15, 0.8])
def test_jitter_kills_no_carrier(jitter: float) -> None:
    world = World()
    links = [world.attach(rate=2.5e6, delay=delay) for delay in (0.01, 0.03, 0.075)]
    near, far = opened(world)
    for link in links:
        for path in link.paths():
            path.jitter = jitter
    world.run(2.0)
    assert download(world, far, near, 2 << 20) == DATA[: 2 << 20]
    assert len(world.client.engine.carriers.live) == len(world.relay.engine.carriers.live) == 3


def test_after_all_carriers_broke_a_new_one_resumes() -> None:
    world = World()
    for delay in (0.01, 0.03):
        world.attach(rate=2e6, delay=delay)
    near, far = opened(world)
    half = download(world, far, near, 1 << 20)
    world.relay.engine.write(far, memoryview(DATA)[1 << 20 :])
    world.run(0.05)
    for link in list(world.links.values()):
        world.kill(link)
    world.run(30.0)
    world.attach(delay=0.01)
    world.run(1.0)
    rest = half + read_some(world.client, near, 4 << 20, world.now)
    assert len(rest) > 1 << 20
    assert rest == DATA[: len(rest)]


def test_what_arrived_is_not_sent_again() -> None:
    world = World()
    links = [world.attach(rate=2e6, delay=delay) for delay in (0.05, 0.01)]
    near, far = opened(world)
    world.run(0.5)
    before = world.sent
    world.relay.engine.write(far, memoryview(DATA)[:300_000])
    world.run(0.2)  # most arrived, and is acknowledged or about to be
    world.kill(links[0])
    world.run(1.0)
    assert len(read_some(world.client, near, 1 << 20, world.now)) == 300_000
    assert world.sent - before < 300_000 + 100 * 1024


def test_a_stalled_reader_does_not_hold_up_the_others() -> None:
    world = World(limits=SessionLimits(send=512 << 10, receive=512 << 10))
    world.attach(rate=2e6)
    stalled = [opened(world) for _ in range(3)]
    for _ in range(40):
        for _, far in stalled:
            world.relay.engine.write(far, memoryview(DATA)[:65536])
        world.run(0.05)
    near, far = opened(world)
    assert download(world, far, near, 1 << 20) == DATA[: 1 << 20]


@pytest.mark.parametrize(("count", "cut"), [(1, []), (3, [ResetReason.STALLED])])
def test_stalled_readers_are_cut_only_when_they_hold_too_much(
    count: int, cut: list[ResetReason]
) -> None:
    world = World(limits=SessionLimits(send=512 << 10, receive=512 << 10))
    world.attach(rate=2e6)
    stalled = [opened(world) for _ in range(count)]
    for _, far in stalled:
        world.relay.engine.write(far, memoryview(b"x"))
    world.run(2 * STALLED_AFTER)
    for _ in range(400):
        for _, far in stalled:
            world.relay.engine.write(far, memoryview(DATA)[:1000])
        world.run(0.05)
    assert [near.reason for near, _ in stalled if near.receiving is Receiving.CUT] == cut


def test_where_blocks_run_out_who_is_not_read_is_cut_and_never_who_reads() -> None:
    world = World(limits=SessionLimits(send=512 << 10, receive=512 << 10))
    world.attach(rate=2e6)
    near, far = opened(world)
    stalled = [opened(world) for _ in range(50)]
    for _, other in stalled:
        world.relay.engine.write(other, memoryview(DATA)[:5000])  # in a block of three times that
    world.run(2.0)
    assert download(world, far, near, 1 << 20) == DATA[: 1 << 20]
    reasons = {each.reason for each, _ in stalled if each.receiving is Receiving.CUT}
    assert reasons == {ResetReason.STALLED}


def test_small_writes_behind_a_full_path_travel_together() -> None:
    world = World()
    world.attach(rate=1e6, delay=0.01)
    near, far = opened(world)
    before = world.sent
    world.relay.engine.write(far, memoryview(DATA)[:300_000])
    for _ in range(1000):
        world.relay.engine.write(far, memoryview(b"key"))
    world.run(2.0)
    assert len(read_some(world.client, near, 1 << 20, world.now)) == 303_000
    assert world.sent - before < 303_000 + 60 * 20


def test_the_end_of_the_session_wakes_all_streams_and_frees_all_memory() -> None:
    world = World()
    world.attach()
    near, far = opened(world)
    world.relay.engine.write(far, memoryview(DATA)[:200_000])
    world.run(0.2)
    world.relay.engine.state.close(CloseReason.DONE)
    world.run(0.2)
    assert world.client.engine.state.closed is CloseReason.DONE
    assert near in world.client.engine.state.woken
    for end in (world.client, world.relay):
        assert end.memory.accounts["session"].held == 0


def test_an_idle_stream_costs_little() -> None:
    world = World()
    world.attach()
    engine = world.client.engine
    streams = []
    for _ in range(10):
        opened(world)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(200):
        stream = engine.open(b"somewhere")
        engine.write(stream, memoryview(b"question"))
        streams.append(stream)
    world.run(1.0)
    for far, _ in world.relay.engine.state.accepted:
        read_some(world.relay, far, 100, world.now)
        world.relay.engine.write(far, memoryview(b"answer"))
    world.relay.engine.state.accepted.clear()
    world.run(1.0)
    for stream in streams:
        assert read_some(world.client, stream, 100, world.now) == b"answer"
    world.run(2.5)  # no block is kept warm any longer
    gc.collect()
    used = (tracemalloc.get_traced_memory()[0] - before) / 400  # both ends
    tracemalloc.stop()
    print(f"{used:.0f} bytes for an idle stream")
    assert used <= IDLE_STREAM


def test_a_path_is_filled_within_its_first_second() -> None:
    world = World()
    world.attach(rate=2.5e6, delay=0.075)
    near, far = opened(world)
    world.run(1.0)
    started = world.now
    assert download(world, far, near, 2 << 20) == DATA[: 2 << 20]
    assert world.now - started < 0.075 + 1.3 * (2 << 20) / 2.5e6


def test_data_arrives_over_a_path_of_infinite_rate() -> None:
    world = World()
    world.attach(rate=math.inf, delay=0.0)
    near, far = opened(world)
    assert download(world, far, near, len(DATA)) == DATA
