"""Output that is not read, has no room, or goes to a charset that lacks characters."""

from __future__ import annotations

import fcntl
import io
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field

import pytest

from circumvent.cli import views
from circumvent.cli.output import ROOM, Spool
from circumvent.status.events import Listening, Racing

PATIENCE = 10.0  # seconds; nothing here takes a tenth of one
SMALL = 4096  # bytes: the smallest pipe
LINE = 64  # bytes of each of the numbers


@dataclass
class Printer:
    """A spool whose output goes into a small pipe."""

    reader: int
    size: int
    spool: Spool
    received: bytes = field(default=b"")

    def write(self, text: str) -> None:
        self.spool.write(text.encode())

    def fill(self) -> int:
        """Print numbers until the pipe and the spool are full; how many were taken."""
        total = (self.size + ROOM) // LINE
        deadline = time.monotonic() + PATIENCE
        for number in range(total):
            while not self.spool.has_room:
                assert time.monotonic() < deadline
                time.sleep(0.001)
            self.write(f"{number:063d}\n")
        return total

    def receive(self, end: bytes) -> bytes:
        """All that comes until ``end``."""
        while not self.received.endswith(end):
            self.received += os.read(self.reader, ROOM)
        return self.received


@pytest.fixture
def printer() -> Iterator[Printer]:
    reader, writer = os.pipe()
    size = fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, SMALL)
    made = Printer(reader, size, Spool(writer, retry_after=0.01))
    yield made
    os.set_blocking(reader, False)
    deadline = time.monotonic() + PATIENCE
    while not made.spool.is_empty:  # its thread must not write to another file with that number
        assert time.monotonic() < deadline
        try:
            os.read(reader, ROOM)
        except BlockingIOError:
            time.sleep(0.001)
    os.close(reader)
    os.close(writer)


def test_everything_arrives_in_order(printer: Printer) -> None:
    for number in range(100):
        printer.write(f"{number}\n")
    assert printer.receive(b"\n99\n") == b"".join(b"%d\n" % number for number in range(100))


def test_without_a_reader_writing_does_not_block(printer: Printer) -> None:
    taken = printer.fill()
    for number in range(taken, taken + 1000):
        printer.write(f"{number:063d}\n")
    assert printer.spool.lost == 1000
    expected = b"".join(b"%063d\n" % number for number in range(taken))
    assert printer.receive(b"%063d\n" % (taken - 1)) == expected


def test_one_line_takes_the_place_of_dropped_messages(printer: Printer) -> None:
    last = printer.fill() - 1
    for _ in range(3):
        printer.write("lost\n")
    printer.receive(b"%063d\n" % last)
    printer.write("again\n")
    told = b"%063d\nwarning: 3 messages missing here: the output was blocked\nagain\n" % last
    assert printer.receive(b"again\n").endswith(told)


def test_the_exit_waits_only_a_moment_for_the_reader(printer: Printer) -> None:
    printer.fill()
    started = time.monotonic()
    printer.spool.finish(0.01)
    assert time.monotonic() - started < PATIENCE
    assert not printer.spool.is_empty


def test_a_pipe_that_never_blocks_loses_nothing(printer: Printer) -> None:
    os.set_blocking(printer.spool.fileno(), False)
    last = printer.fill() - 1
    assert len(printer.receive(b"%063d\n" % last)) == LINE * (last + 1)


def test_a_full_disk_is_tried_again_and_no_line_is_cut(printer: Printer) -> None:
    pipe = os.dup(printer.spool.fileno())
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, printer.spool.fileno())
    os.close(full)
    printer.write("one\n")
    printer.spool.finish(PATIENCE)  # returns at once: the write failed
    printer.write("two\n")
    os.dup2(pipe, printer.spool.fileno())
    os.close(pipe)
    assert printer.receive(b"two\n") == b"one\ntwo\n"


@contextmanager
def standard_output(printer: Printer) -> Iterator[None]:
    """The printer as standard output, in a charset that lacks characters."""
    stream = io.TextIOWrapper(printer.spool, "latin-1", "replace", write_through=True)  # type: ignore[type-var]
    with redirect_stdout(stream):
        yield
    stream.detach()


def test_dropped_messages_are_told_in_json_to_a_json_reader(printer: Printer) -> None:
    view = views.JsonView(printer.spool)
    last = printer.fill() - 1
    with standard_output(printer):
        view.show(Racing(1))
        printer.receive(b"%063d\n" % last)
        view.show(Listening("127.0.0.1:1080"))
    lines = printer.receive(b':1080"}\n').splitlines()[last + 1 :]
    events = [json.loads(line) for line in lines]
    assert [event["event"] for event in events] == ["warned", "listening"]
    assert events[0]["text"].startswith("1 message missing here")


def test_dropped_messages_are_told_above_the_live_table(printer: Printer) -> None:
    view = views.LiveView(printer.spool)
    last = printer.fill() - 1
    with standard_output(printer):
        for _ in range(2):
            view.show(Racing(1))
        printer.receive(b"%063d\n" % last)
        view.show(Racing(2))
    told = b"warning: 2 messages missing here: the output was blocked\nracing 2 servers?\n"
    assert printer.receive(told).endswith(told)
