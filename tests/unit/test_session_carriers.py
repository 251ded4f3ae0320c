"""When carriers of a session are suspected, asked about and given up, and what they are told."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from circumvent.errors import ProtocolError
from circumvent.session.engine.carrier import NEVER, CarrierState, EngineCarrier
from circumvent.session.engine.carrier_table import CarrierTable
from circumvent.session.engine.estimate import Estimate
from circumvent.session.engine.limits import (
    ACK_BYTES,
    ACK_DELAY,
    ALL_SILENT,
    ASK_PATIENCE,
    FINAL_COUNTS,
    LATE_LOOP,
    LEAST_CAP,
    LEAST_LIFE,
    PONG_PATIENCE,
)
from circumvent.session.engine.stream import Frame
from circumvent.wire.frames import HEADER_SIZE, MAX_FRAME, PAD, FrameKind, Head, read_head

NOW = 100.0
RTT = 0.02
PATIENCE = 0.21  # of a fresh carrier: the least one and the delay of an acknowledgement
SOON = 0.001


class Table(CarrierTable):
    """Two carriers that were pinged and answered; what others are to carry is noted."""

    def __init__(self, carriers: int = 2) -> None:
        self.now = NOW
        self.settled: list[Frame] = []
        self.requeued: list[int] = []
        super().__init__(self.settled.extend, lambda c: self.requeued.append(c.number), Random(1))
        for number in range(1, carriers + 1):
            carrier = self.attach(number, RTT, NOW)
            self.tell(carrier, NOW)
            self.on_pong(carrier, carrier.ping_nonce, NOW + RTT)

    def tell(self, carrier: EngineCarrier, now: float, size: int = 4096) -> list[Head]:
        """What would be written on the carrier now."""
        view = memoryview(bytearray(size))
        return list(heads(view[: self.fill(carrier, view, now)]))

    def run(self, until: float) -> None:
        """Do everything in time."""
        while (due := self.deadline(self.now)) <= until:
            self.now = due
            self.tick(due)
        self.now = until


def heads(data: memoryview) -> Iterator[Head]:
    at = 0
    while at < len(data):
        head = read_head(data, at)
        yield head
        at = head.end


def state(carrier: EngineCarrier) -> CarrierState:
    return carrier.state


def kinds(told: list[Head]) -> list[tuple[int, int]]:
    return [(head.kind, head.stream) for head in told]


@pytest.fixture
def table() -> Table:
    return Table()


def busy(table: Table, number: int = 1, size: int = 1000) -> EngineCarrier:
    """A carrier with one frame on the way."""
    carrier = table.live[number]
    carrier.frames.append(Frame(None, bytes(size), None))
    carrier.launch(size, NOW, is_bound_by_path=True)
    return carrier


def suspected(table: Table, number: int = 1) -> EngineCarrier:
    carrier = busy(table, number)
    table.run(NOW + PATIENCE)
    assert state(carrier) is CarrierState.SUSPECT
    return carrier


class TestSuspicion:
    def test_the_peer_is_asked_elsewhere_after_half_the_patience(self, table: Table) -> None:
        carrier = busy(table)
        assert table.deadline(NOW) == pytest.approx(NOW + PATIENCE / 2)
        table.run(NOW + PATIENCE / 2 - SOON)
        assert table.tell(table.live[2], NOW) == []
        table.run(NOW + PATIENCE / 2)
        assert not table.has_notes(carrier)
        assert table.has_notes(table.live[2])
        assert kinds(table.tell(carrier, NOW)) == []
        assert kinds(table.tell(table.live[2], NOW)) == [(FrameKind.ASK, 1)]

    def test_it_is_suspected_when_its_patience_ends_and_pinged(self, table: Table) -> None:
        carrier = busy(table)
        table.run(NOW + PATIENCE - SOON)
        assert (carrier.state, table.changed) == (CarrierState.UP, [])
        table.run(NOW + PATIENCE)
        assert (carrier.state, table.changed) == (CarrierState.SUSPECT, [carrier])
        assert kinds(table.tell(carrier, NOW)) == [(FrameKind.PING, 0)]
        assert kinds(table.tell(table.live[2], NOW)) == [(FrameKind.ASK, 1)], "asked once only"

    def test_without_an_answer_others_carry_its_frames_soon(self, table: Table) -> None:
        suspected(table)
        answer_by = NOW + PATIENCE + 2 * RTT + ASK_PATIENCE
        table.run(answer_by - SOON)
        assert table.requeued == []
        table.run(answer_by)
        assert table.requeued == [1]

    def test_with_an_answer_before_they_do_at_once(self, table: Table) -> None:
        busy(table)
        table.run(NOW + PATIENCE / 2)
        assert table.on_ack(table.live[2], 1, 0, 0.0, NOW + PATIENCE / 2)
        assert table.requeued == []
        table.run(NOW + PATIENCE)
        assert table.requeued == [1]

    def test_with_an_answer_while_it_is_suspected_they_do_at_once(self, table: Table) -> None:
        carrier = suspected(table)
        assert table.on_ack(table.live[2], 1, 1000, 0.0, NOW + PATIENCE)
        assert (table.requeued, [frame.size for frame in table.settled]) == ([1], [1000])
        assert state(carrier) is CarrierState.SUSPECT

    def test_progress_ends_it_and_nothing_is_carried_twice(self, table: Table) -> None:
        carrier = suspected(table)
        assert table.on_ack(carrier, 1, 1000, 0.0, NOW + PATIENCE)
        assert state(carrier) is CarrierState.UP
        assert table.changed == [carrier, carrier]
        table.run(NOW + 1.0)
        assert table.requeued == []

    def test_old_news_do_not_end_it(self, table: Table) -> None:
        carrier = suspected(table)
        assert not table.on_ack(carrier, 1, 0, 0.0, NOW + PATIENCE)
        assert state(carrier) is CarrierState.SUSPECT

    def test_bytes_end_it_only_if_none_of_ours_are_on_the_way(self, table: Table) -> None:
        carrier = suspected(table)
        table.note_bytes(carrier, 10, NOW + PATIENCE)
        assert state(carrier) is CarrierState.SUSPECT
        table.on_ack(table.live[2], 1, 1000, 0.0, NOW + PATIENCE)
        table.note_bytes(carrier, 10, NOW + PATIENCE)
        assert state(carrier) is CarrierState.UP

    def test_an_idle_carrier_is_pinged_and_suspected_when_it_does_not_answer(self) -> None:
        table = Table()
        carrier = table.live[1]
        pinged_at = carrier.ping_at
        assert NOW + 10.0 <= pinged_at <= NOW + 20.0
        table.run(pinged_at - SOON)
        assert not carrier.must_ping
        table.run(pinged_at)
        assert kinds(table.tell(carrier, pinged_at)) == [(FrameKind.PING, 0)]
        suspect_at = pinged_at + PONG_PATIENCE + carrier.estimate.patience
        table.note_bytes(table.live[2], 1, suspect_at - SOON)
        table.run(suspect_at - SOON)
        assert state(carrier) is CarrierState.UP
        table.run(suspect_at)
        assert state(carrier) is CarrierState.SUSPECT

    def test_any_byte_answers_a_ping(self, table: Table) -> None:
        carrier = table.live[1]
        pinged_at = carrier.ping_at
        table.run(pinged_at)
        table.note_bytes(carrier, 1, pinged_at + 1.0)
        table.run(pinged_at + 3.0)
        assert state(carrier) is CarrierState.UP
        assert pinged_at + 10.0 < carrier.ping_at <= pinged_at + 1.0 + 20.0

    def test_after_a_change_of_network_all_have_to_answer_within_their_patience(self) -> None:
        table = Table()
        table.check_alive(NOW)
        assert all(
            kinds(table.tell(each, NOW)) == [(FrameKind.PING, 0)] for each in table.live.values()
        )
        table.note_bytes(table.live[2], 1, NOW + RTT)
        table.run(NOW + PATIENCE)
        assert [carrier.number for carrier in table.changed] == [1]

    def test_nobody_is_suspected_for_the_time_that_we_were_late(self, table: Table) -> None:
        carrier = busy(table)
        table.check_alive(NOW)
        late = table.deadline(NOW) + LATE_LOOP + SOON
        table.tick(late)
        table.run(late + PATIENCE - SOON)
        assert state(carrier) is CarrierState.UP
        table.run(late + PATIENCE)
        assert state(carrier) is CarrierState.SUSPECT


class TestDeath:
    def test_silent_while_another_one_is_not(self, table: Table) -> None:
        carrier = suspected(table)
        table.note_bytes(table.live[2], 1, NOW + 1.0)
        table.run(NOW + LEAST_LIFE)
        assert 1 in table.live
        table.run(NOW + LEAST_LIFE + 2 * LATE_LOOP)
        assert (carrier.state, list(table.live)) == (CarrierState.DEAD, [2])
        assert table.changed[-1] is carrier

    def test_what_it_receives_keeps_it_alive(self, table: Table) -> None:
        carrier = suspected(table)
        table.note_bytes(table.live[2], 1, NOW + 1.0)
        table.note_bytes(carrier, 1, NOW + 2.0)
        table.run(NOW + 2.0 + LEAST_LIFE)
        assert 1 in table.live

    def test_if_all_are_silent_it_is_the_network(self, table: Table) -> None:
        suspected(table)
        table.run(NOW + PATIENCE + ALL_SILENT - SOON)
        assert 1 in table.live
        table.run(NOW + PATIENCE + ALL_SILENT + 1.0)
        assert 1 not in table.live

    def test_others_tell_how_much_came_and_carry_what_did_not_go(self, table: Table) -> None:
        carrier = busy(table)
        carrier.received = 77
        for _ in range(2):
            table.detach(carrier, NOW)
        (gone,) = table.tell(table.live[2], NOW)
        assert (gone.kind, gone.stream, gone.offset) == (FrameKind.GONE, 1, 77)
        assert list(table.frames()) == list(carrier.frames)
        answer_by = NOW + 2 * RTT + ASK_PATIENCE
        assert table.deadline(NOW) == pytest.approx(answer_by)
        table.run(answer_by - SOON)
        assert table.requeued == []
        table.run(answer_by)
        assert table.requeued == [1]
        table.run(answer_by + 1.0)
        assert (table.requeued, list(table.frames())) == ([1], [])

    def test_its_frames_wait_for_a_carrier_if_there_is_none(self) -> None:
        table = Table(1)
        table.detach(busy(table), NOW)
        table.run(NOW + 100.0)
        assert table.requeued == []
        table.attach(2, RTT, NOW + 100.0)
        table.run(NOW + 100.0 + 2 * RTT + ASK_PATIENCE - SOON)
        assert table.requeued == []
        table.run(NOW + 100.0 + 2 * RTT + ASK_PATIENCE)
        assert table.requeued == [1]

    def test_the_peers_final_count_settles_what_arrived(self, table: Table) -> None:
        carrier = busy(table)
        busy(table)
        assert table.on_gone(1, 1000, NOW)
        assert (carrier.state, list(table.live)) == (CarrierState.DEAD, [2])
        assert (len(table.settled), len(carrier.frames), table.requeued) == (1, 1, [1])
        assert not table.on_gone(1, 1000, NOW)
        assert not table.on_ack(table.live[2], 1, 1000, 0.0, NOW)

    def test_a_new_carrier_is_told_the_latest_final_counts(self) -> None:
        table = Table(FINAL_COUNTS + 2)
        for number in range(1, FINAL_COUNTS + 2):
            table.live[number].received = 1000 + number
            table.detach(table.live[number], NOW)
        table.tell(table.live[FINAL_COUNTS + 2], NOW)
        told = table.tell(table.attach(99, RTT, NOW), NOW)
        assert [(head.kind, head.offset) for head in told] == [
            (FrameKind.PING, told[0].offset),
            *((FrameKind.GONE, 1000 + number) for number in range(2, FINAL_COUNTS + 2)),
        ]


class TestWhatIsTold:
    def test_an_acknowledgement_is_due_soon_and_told_once(self, table: Table) -> None:
        carrier = table.live[1]
        assert not carrier.owe_ack(NOW)
        carrier.received = 1000
        assert carrier.owe_ack(NOW)
        carrier.received = 2000
        assert not carrier.owe_ack(NOW + ACK_DELAY / 2)
        table.run(NOW + ACK_DELAY - SOON)
        assert not table.has_notes(carrier)
        table.run(NOW + ACK_DELAY)
        assert table.has_notes(carrier)
        view = memoryview(bytearray(100))
        end = table.fill(carrier, view, NOW + ACK_DELAY)
        (ack,) = heads(view[:end])
        assert (ack.kind, ack.stream, ack.offset) == (FrameKind.ACK, 1, 2000)
        assert int.from_bytes(view[HEADER_SIZE:end]) == pytest.approx(5000, abs=2)  # microseconds
        assert not table.has_notes(carrier)
        assert (carrier.ack_due, table.tell(carrier, NOW + 1.0)) == (NEVER, [])

    def test_many_bytes_are_acknowledged_at_once(self, table: Table) -> None:
        carrier = table.live[1]
        carrier.received = ACK_BYTES - 1
        carrier.owe_ack(NOW)
        assert not table.has_notes(carrier)
        carrier.received = ACK_BYTES
        carrier.owe_ack(NOW)
        assert table.has_notes(carrier)

    def test_a_question_about_a_carrier_is_answered_on_another(self, table: Table) -> None:
        table.live[1].received = 500
        assert table.on_ask(1, NOW)
        assert FrameKind.ACK not in dict(kinds(table.tell(table.live[2], NOW, HEADER_SIZE)))
        (ack,) = table.tell(table.live[2], NOW)
        assert (ack.kind, ack.stream, ack.offset) == (FrameKind.ACK, 1, 500)
        assert not table.on_ask(99, NOW)

    def test_a_carrier_that_is_asked_about_and_silent_must_answer_a_ping(self) -> None:
        table = Table()
        table.on_ask(1, NOW + ASK_PATIENCE)
        assert kinds(table.tell(table.live[1], NOW)) == []
        table.on_ask(1, NOW + 2 * ASK_PATIENCE)
        assert kinds(table.tell(table.live[1], NOW)) == [(FrameKind.PING, 0)]
        table.run(NOW + 2 * ASK_PATIENCE + PATIENCE)
        assert table.live[1].state is CarrierState.SUSPECT

    def test_a_ping_is_answered_with_its_number(self, table: Table) -> None:
        table.live[1].pong = 42
        assert table.has_notes(table.live[1])
        (pong,) = table.tell(table.live[1], NOW)
        assert (pong.kind, pong.offset) == (FrameKind.PONG, 42)
        assert table.tell(table.live[1], NOW) == []

    def test_a_suspected_carrier_brings_notes_only_if_there_is_no_other(self) -> None:
        table = Table(3)
        carrier = suspected(table)
        table.tell(carrier, NOW)
        table.detach(table.live[3], NOW)
        assert (table.has_notes(carrier), table.tell(carrier, NOW)) == (False, [])
        table.detach(table.live[2], NOW)
        assert kinds(table.tell(carrier, NOW)) == [(FrameKind.GONE, 3), (FrameKind.GONE, 2)]

    def test_padding_has_many_lengths_and_never_more_than_there_is_room(self) -> None:
        table = Table()
        view = memoryview(bytearray(4096))
        ends = {table.pad(view, 5) for _ in range(200)}
        assert ends == {5 + count * len(PAD) for count in range(17)}
        assert bytes(view[5 : max(ends)]) == PAD * 16
        small = memoryview(bytearray(2 * len(PAD) + 4))
        assert {table.pad(small, 5) for _ in range(200)} == {5, 5 + len(PAD)}


class TestOneCarrier:
    def test_a_ping_replaces_the_first_guess_of_the_round_trip(self) -> None:
        table = Table(1)
        carrier = table.attach(2, RTT, NOW)
        assert not any(table.on_pong(carrier, each, NOW) for each in (0, 1)), "nobody asked"
        (ping,) = table.tell(carrier, NOW)
        assert not table.on_pong(carrier, ping.offset + 1, NOW + 0.3)
        assert table.on_pong(carrier, ping.offset, NOW + 0.3)
        assert carrier.estimate.srtt == carrier.estimate.base_rtt == pytest.approx(0.3)
        assert not table.on_pong(carrier, ping.offset, NOW + 0.9)

    def test_nothing_is_acknowledged_before_it_was_sent(self, table: Table) -> None:
        carrier = busy(table)
        with pytest.raises(ProtocolError, match="before they were sent"):
            carrier.acknowledge(1001)

    def test_whole_frames_arrive_and_the_rest_stays(self, table: Table) -> None:
        carrier = busy(table)
        busy(table)
        first, second = carrier.frames
        assert list(carrier.acknowledge(999)) == []
        assert list(carrier.acknowledge(1000)) == [first]
        assert carrier.acknowledge(1000) == ()
        assert list(carrier.acknowledge(2000)) == [second]

    def test_it_learns_from_what_is_acknowledged(self, table: Table) -> None:
        carrier = busy(table, size=100_000)
        allowed = carrier.allowance
        assert allowed == carrier.estimate.cap - 100_000
        assert carrier.progress(50_000, 0.02, NOW + 0.12) is True
        assert carrier.progress(100_000, 0.02, NOW + 0.12) is True
        assert carrier.estimate.srtt == pytest.approx(RTT + (0.1 - RTT) / 8)
        assert carrier.estimate.rate == pytest.approx(100_000 / 0.12)
        carrier.acknowledge(100_000)
        assert carrier.unacked == 0
        assert carrier.progress(100_000, 0.02, NOW + 0.2) is False
        carrier.launch(150_000, NOW + 1.0, is_bound_by_path=True)
        carrier.progress(250_000, 0.02, NOW + 1.1)
        assert carrier.estimate.rate == pytest.approx(150_000 / 0.1)

    def test_the_clock_of_what_is_on_the_way_starts_when_it_was_idle(self, table: Table) -> None:
        carrier = table.live[1]
        carrier.launch(1000, NOW + 50.0, is_bound_by_path=True)
        assert carrier.suspect_at == pytest.approx(NOW + 50.0 + PATIENCE)
        carrier.launch(1000, NOW + 51.0, is_bound_by_path=True)
        assert carrier.suspect_at == pytest.approx(NOW + 50.0 + PATIENCE)

    def test_a_byte_arrives_after_the_path_and_its_queue(self, table: Table) -> None:
        carrier = table.live[1]
        carrier.ready_at = NOW
        assert carrier.arrival(NOW, NOW) == pytest.approx(RTT / 2)
        carrier.launch(200_000, NOW, is_bound_by_path=True)
        queue = 200_000 / carrier.estimate.rate - RTT - ACK_DELAY
        assert carrier.arrival(NOW, NOW) == pytest.approx(queue + RTT / 2)

    def test_who_takes_no_frames_is_held_up(self, table: Table) -> None:
        carrier = table.live[1]
        carrier.ready_at = NOW
        usual = 3 * MAX_FRAME / carrier.estimate.rate + 0.03
        assert carrier.arrival(NOW + 1.0, NOW - 5.0) == pytest.approx(1.0 - usual + RTT / 2)
        assert carrier.arrival(NOW + 1.0, NOW + 0.5) == pytest.approx(0.5 - usual + RTT / 2)

    def test_overdue_progress_is_a_queue(self, table: Table) -> None:
        carrier = busy(table)
        late = 1.0 - RTT - ACK_DELAY
        assert carrier.arrival(NOW + 1.0, NOW + 1.0) == pytest.approx(late + RTT / 2)


class TestEstimate:
    def test_patience_covers_the_round_trip_and_how_it_varies(self) -> None:
        assert Estimate(RTT, NOW).patience == pytest.approx(PATIENCE)
        assert Estimate(0.4, NOW).patience == pytest.approx(0.4 + 4 * 0.2 + ACK_DELAY)

    def test_round_trips_are_smoothed(self) -> None:
        """RFC 6298 §2.3."""
        estimate = Estimate(0.4, NOW)
        estimate.see_rtt(0.8, NOW)
        assert estimate.srtt == pytest.approx(0.45)
        assert estimate.base_rtt == pytest.approx(0.4)
        assert estimate.patience == pytest.approx(0.45 + 4 * 0.25 + ACK_DELAY)
        estimate.see_rtt(0.05, NOW)
        assert estimate.base_rtt == estimate.srtt == pytest.approx(0.4)

    def test_while_it_opens_the_cap_grows_by_what_arrives_on_a_full_path(self) -> None:
        estimate = Estimate(RTT, NOW)
        first = estimate.cap
        estimate.see_rate(1e6, 1000, 0, NOW, is_bound_by_path=True)
        assert estimate.cap == first
        estimate.see_rate(1e6, 1000, first - MAX_FRAME, NOW, is_bound_by_path=True)
        assert estimate.cap == first + 1000

    def test_a_queue_ends_the_opening_and_the_cap_follows_the_rate(self) -> None:
        estimate = Estimate(0.1, NOW)
        estimate.see_rtt(0.5, NOW)
        assert estimate.opening, "no rate is known yet"
        estimate.see_rate(4e6, 1000, 0, NOW, is_bound_by_path=True)
        openings = []
        for rtt in (0.1, 0.2):
            estimate.see_rtt(rtt, NOW)
            openings.append(estimate.opening)
        assert openings == [True, False]
        estimate.see_rate(4e6, 1000, 0, NOW, is_bound_by_path=True)
        assert estimate.cap == int(1.5 * 4e6 * (0.1 + ACK_DELAY))
        slow = Estimate(RTT, NOW)
        slow.see_rate(1e3, 1000, 0, NOW, is_bound_by_path=True)
        slow.see_rtt(1.0, NOW)
        slow.see_rate(1e3, 1000, 0, NOW, is_bound_by_path=True)
        assert slow.cap == LEAST_CAP

    def test_a_sender_with_little_to_send_proves_no_path_slow(self) -> None:
        estimate = Estimate(RTT, NOW)
        first = estimate.rate
        estimate.see_rate(1e3, 1000, 0, NOW, is_bound_by_path=False)
        assert estimate.rate == first
        estimate.see_rate(1e6, 1000, 0, NOW, is_bound_by_path=True)
        estimate.see_rate(1e3, 1000, 0, NOW + 5.0, is_bound_by_path=False)
        assert estimate.rate == 1e6
        estimate.see_rate(2e6, 1000, 0, NOW + 5.0, is_bound_by_path=False)
        assert estimate.rate == 2e6

    def test_the_fastest_rate_is_remembered_for_one_to_two_windows(self) -> None:
        estimate = Estimate(RTT, NOW)
        for rate, after, known in (
            (5e6, 0.0, 5e6),
            (1e6, 0.5, 5e6),
            (1e6, 1.1, 5e6),
            (2e6, 2.0, 5e6),
            (1e6, 2.2, 2e6),
        ):
            estimate.see_rate(rate, 1000, 0, NOW + after, is_bound_by_path=True)
            assert estimate.rate == known, after

    def test_now_and_then_the_queue_runs_empty_to_measure_the_path(self) -> None:
        estimate = Estimate(0.1, NOW)
        estimate.see_rate(4e6, 1000, 0, NOW, is_bound_by_path=True)
        estimate.see_rtt(0.2, NOW + 0.1)
        assert not estimate.opening
        estimate.see_rtt(0.2, NOW + 1.1)  # a drain begins
        begun = estimate.srtt
        estimate.see_rate(4e6, 1000, 0, NOW + 1.1, is_bound_by_path=True)
        assert estimate.cap == int(1.5 * 4e6 * (estimate.base_rtt + ACK_DELAY)) // 2
        estimate.see_rtt(0.2, NOW + 1.1 + begun / 2)  # still of before
        estimate.see_rtt(0.15, NOW + 1.1 + begun)
        estimate.see_rtt(0.17, NOW + 1.1 + begun + 0.1)
        assert estimate.srtt == estimate.base_rtt == pytest.approx(0.16)
        estimate.see_rate(4e6, 1000, 0, NOW + 1.5, is_bound_by_path=True)
        assert estimate.cap == int(1.5 * 4e6 * (0.16 + ACK_DELAY))
