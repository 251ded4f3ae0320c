"""A stateful machine that breaks carriers in every order it can think of."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import ClassVar

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from circumvent.session.engine.limits import SessionLimits
from circumvent.session.engine.stream import EngineStream, Receiving, Sending
from tests.bonding.simulation import End, Link, World, read_some

PATTERN = random.Random(3).randbytes(1 << 20)
LIMITS = SessionLimits(send=512 << 10, receive=1 << 20, streams=32)
MEMORY = 4 << 20
LONGEST = 200_000  # bytes written at once
PATIENCE = 200  # simulated seconds in which everything must have arrived

picks = st.integers(0, 1000)
rates = st.sampled_from([20_000.0, 250_000.0, 2_500_000.0, math.inf])
delays = st.sampled_from([0.001, 0.02, 0.1, 0.4])


def pattern(stream: int, start: int, size: int) -> bytes:
    """What stands at ``start`` of a stream; no two streams have the same there."""
    start = (start + stream * 7919) % (len(PATTERN) // 2)
    return (PATTERN[start:] + PATTERN)[:size] if size < len(PATTERN) // 2 else PATTERN[:size]


@dataclass(eq=False)
class Half:
    """One direction of a stream: who writes, who reads, how far they are."""

    writer: End
    reader: End
    sending: EngineStream
    receiving: EngineStream | None = None
    written: int = 0
    read: int = 0
    ended: bool = False
    cut: bool = False


class Chaos(RuleBasedStateMachine):
    """Streams over carriers that are killed, frozen, delayed and attached again at random."""

    faults: ClassVar[int] = 0

    @initialize(seed=st.integers(0, 1 << 30))
    def start(self, seed: int) -> None:
        self.world = World(seed, LIMITS, MEMORY, poison=True)
        self.halves: dict[tuple[int, bool], Half] = {}
        self.aborted: set[int] = set()
        self.world.attach()

    # --- carriers -------------------------------------------------------------------------------

    @precondition(lambda self: len(self.world.links) < 5)
    @rule(rate=rates, delay=delays, jitter=st.sampled_from([0.0, 0.0, 0.3]))
    def attach(self, rate: float, delay: float, jitter: float) -> None:
        self.world.attach(rate, delay, jitter)

    @precondition(lambda self: self.world.links)
    @rule(pick=picks, client=st.booleans(), relay=st.booleans())
    def kill(self, pick: int, client: bool, relay: bool) -> None:  # noqa: FBT001
        Chaos.faults += 1
        self.world.kill(self.link(pick), client=client, relay=relay)

    @precondition(lambda self: self.world.links)
    @rule(pick=picks, which=st.sampled_from([(0,), (1,), (0, 1)]))
    def freeze(self, pick: int, which: tuple[int, ...]) -> None:
        Chaos.faults += 1
        for each in which:
            self.link(pick).paths()[each].is_frozen = True

    @precondition(lambda self: self.world.links)
    @rule(pick=picks)
    def thaw(self, pick: int) -> None:
        self.world.thaw(self.link(pick))

    @precondition(lambda self: self.world.links)
    @rule(pick=picks, delay=delays, rate=rates)
    def change_path(self, pick: int, delay: float, rate: float) -> None:
        Chaos.faults += 1
        for path in self.link(pick).paths():
            path.delay, path.rate = delay, rate

    @rule(seconds=st.sampled_from([0.001, 0.03, 0.25, 1.0, 5.0]))
    def run(self, seconds: float) -> None:
        self.world.run(seconds)
        self.accept()

    @rule(seconds=st.sampled_from([0.2, 2.0]))
    def sleep(self, seconds: float) -> None:
        """Both machines are suspended for a while."""
        Chaos.faults += 1
        self.world.now += seconds

    # --- streams --------------------------------------------------------------------------------

    @precondition(lambda self: len(self.halves) < 40)
    @rule(by_client=st.booleans())
    def open(self, by_client: bool) -> None:  # noqa: FBT001
        near, far = self.ends(by_client)
        stream = near.engine.open(b"somewhere")
        self.halves[stream.number, by_client] = Half(near, far, stream)

    @precondition(lambda self: self.halves)
    @rule(pick=picks, size=st.integers(1, LONGEST))
    def write(self, pick: int, size: int) -> None:
        half = self.half(pick)
        if half.ended or half.sending.sending is not Sending.OPEN:
            return
        data = memoryview(pattern(half.sending.number, half.written, size))
        half.written += half.writer.engine.write(half.sending, data)

    @precondition(lambda self: self.halves)
    @rule(pick=picks, size=st.integers(1, LONGEST))
    def read(self, pick: int, size: int) -> None:
        self.take(self.half(pick), size)

    @precondition(lambda self: self.halves)
    @rule(pick=picks)
    def end(self, pick: int) -> None:
        half = self.half(pick)
        half.writer.engine.sender.end(half.sending)
        half.ended = True

    @precondition(lambda self: self.halves)
    @rule(pick=picks)
    def stop(self, pick: int) -> None:
        half = self.half(pick)
        if half.receiving is not None:
            half.reader.engine.state.stop(half.receiving)
            half.cut = True

    @precondition(lambda self: self.halves)
    @rule(pick=picks)
    def abort(self, pick: int) -> None:
        half = self.half(pick)
        half.writer.engine.state.abort(half.sending)
        self.aborted.add(half.sending.number)

    # --- what must hold -------------------------------------------------------------------------

    @invariant()
    def memory_is_bounded(self) -> None:
        if hasattr(self, "world"):
            for end in (self.world.client, self.world.relay):
                account = end.memory.accounts["session"]
                # Warm blocks come on top of what is in use.
                assert account.held <= LIMITS.send + LIMITS.receive + 4 * 16 * 16384

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.everything_arrives()

    def everything_arrives(self) -> None:
        world = self.world
        for link in list(world.links.values()):
            world.thaw(link)
        world.attach(math.inf, 0.01)
        world.attach(math.inf, 0.02)
        for _ in range(PATIENCE * 4):
            world.run(0.25)
            self.accept()
            for half in self.halves.values():
                if not half.ended:
                    half.writer.engine.sender.end(half.sending)
                    half.ended = True
                self.take(half, 1 << 20)
            if all(self.is_done(half) for half in self.halves.values()):
                break
        for half in self.halves.values():
            assert self.is_cut(half) or half.read == half.written, (
                f"{half.written - half.read} bytes lost"
            )
        world.run(30.0)  # suspects are given up, warm blocks given back
        for end in (world.client, world.relay):
            assert len(end.engine.state.streams) == 0
            assert end.memory.accounts["session"].held == 0

    def is_done(self, half: Half) -> bool:
        return self.is_cut(half) or (
            half.receiving is not None and half.receiving.is_at_end and half.read == half.written
        )

    def is_cut(self, half: Half) -> bool:
        return half.cut or half.sending.number in self.aborted

    # --- helpers --------------------------------------------------------------------------------

    def ends(self, by_client: bool) -> tuple[End, End]:  # noqa: FBT001
        near, far = self.world.client, self.world.relay
        return (near, far) if by_client else (far, near)

    def link(self, pick: int) -> Link:
        links = list(self.world.links.values())
        return links[pick % len(links)]

    def half(self, pick: int) -> Half:
        halves = list(self.halves.values())
        return halves[pick % len(halves)]

    def accept(self) -> None:
        for is_client in (True, False):
            near, far = self.ends(is_client)
            for stream, opening in near.engine.state.accepted:
                assert opening == b"somewhere"
                there = self.halves[stream.number, not is_client]
                there.receiving = stream
                self.halves[stream.number, is_client] = Half(near, far, stream, there.sending)
            near.engine.state.accepted.clear()

    def take(self, half: Half, size: int) -> None:
        stream = half.receiving
        if stream is None:
            return
        data = read_some(half.reader, stream, size, self.world.now)
        assert data == pattern(stream.number, half.read, len(data)), "not what was written"
        half.read += len(data)
        if stream.receiving is Receiving.CUT:
            assert self.is_cut(half), "a stream was cut that nobody had cut"
        if stream.is_at_end and not self.is_cut(half):
            assert half.ended
            assert half.read == half.written
