"""What is printed where nobody reads, where there is no room, and in charsets that lack much."""

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

from circumvent.cli import output, views
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
    heard: bytes = field(default=b"")

    def write(self, text: str) -> None:
        self.spool.write(text.encode())

    def stuff(self) -> int:
        """Print numbers until the pipe and the spool are full; how many were taken."""
        total = (self.size + ROOM) // LINE
        deadline = time.monotonic() + PATIENCE
        for number in range(total):
            while not self.spool.has_room:
                assert time.monotonic() < deadline
                time.sleep(0.001)
            self.write(f"{number:063d}\n")
        return total

    def hear(self, end: bytes) -> bytes:
        """All that comes until ``end``."""
        while not self.heard.endswith(end):
            self.heard += os.read(self.reader, ROOM)
        return self.heard


@pytest.fixture
def printer() -> Iterator[Printer]:
    reader, writer = os.pipe()
    size = fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, SMALL)
    made = Printer(reader, size, Spool(writer))
    yield made
    os.set_blocking(reader, False)
    deadline = time.monotonic() + PATIENCE
    while not made.spool.is_empty:  # its thread must not find another file behind the number
        assert time.monotonic() < deadline
        try:
            os.read(reader, ROOM)
        except BlockingIOError:
            time.sleep(0.001)
    os.close(reader)
    os.close(writer)


def test_what_is_read_comes_whole_and_in_order(printer: Printer) -> None:
    for number in range(100):
        printer.write(f"{number}\n")
    assert printer.hear(b"\n99\n") == b"".join(b"%d\n" % number for number in range(100))


def test_nobody_who_reads_means_nobody_who_waits(printer: Printer) -> None:
    taken = printer.stuff()
    for number in range(taken, taken + 1000):
        printer.write(f"{number:063d}\n")
    assert printer.spool.lost == 1000
    expected = b"".join(b"%063d\n" % number for number in range(taken))
    assert printer.hear(b"%063d\n" % (taken - 1)) == expected


def test_one_line_says_how_much_is_missing_where_it_is_missing(printer: Printer) -> None:
    last = printer.stuff() - 1
    for _ in range(3):
        printer.write("lost\n")
    printer.hear(b"%063d\n" % last)
    printer.write("again\n")
    told = b"%063d\nwarning: 3 messages missing here: nobody took them in time\nagain\n" % last
    assert printer.hear(b"again\n").endswith(told)


def test_the_end_waits_only_a_moment_for_who_does_not_read(printer: Printer) -> None:
    printer.stuff()
    started = time.monotonic()
    printer.spool.finish(0.01)
    assert time.monotonic() - started < PATIENCE
    assert not printer.spool.is_empty


def test_a_pipe_that_never_blocks_loses_nothing(printer: Printer) -> None:
    os.set_blocking(printer.spool.fileno(), False)
    last = printer.stuff() - 1
    assert len(printer.hear(b"%063d\n" % last)) == LINE * (last + 1)


def test_a_full_disk_is_tried_again_and_no_line_is_torn(
    printer: Printer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "AGAIN_SECONDS", 0.01)
    pipe = os.dup(printer.spool.fileno())
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, printer.spool.fileno())
    os.close(full)
    printer.write("one\n")
    printer.spool.finish(PATIENCE)  # returns at once: it does not go well
    printer.write("two\n")
    os.dup2(pipe, printer.spool.fileno())
    os.close(pipe)
    assert printer.hear(b"two\n") == b"one\ntwo\n"


@contextmanager
def standard_output(printer: Printer) -> Iterator[None]:
    """It is the printer, in a charset that lacks much."""
    stream = io.TextIOWrapper(printer.spool, "latin-1", "replace", write_through=True)  # type: ignore[type-var]
    with redirect_stdout(stream):
        yield
    stream.detach()


def test_what_is_missing_in_json_is_told_in_json(printer: Printer) -> None:
    view = views.JsonView(printer.spool)
    last = printer.stuff() - 1
    with standard_output(printer):
        view.show(Racing(1))
        printer.hear(b"%063d\n" % last)
        view.show(Listening("127.0.0.1:1080"))
    lines = printer.hear(b':1080"}\n').splitlines()[last + 1 :]
    events = [json.loads(line) for line in lines]
    assert [event["event"] for event in events] == ["warned", "listening"]
    assert events[0]["text"].startswith("1 message missing here")


def test_what_is_missing_above_the_live_table_is_told_there(printer: Printer) -> None:
    view = views.LiveView(printer.spool)
    last = printer.stuff() - 1
    with standard_output(printer):
        for _ in range(2):
            view.show(Racing(1))
        printer.hear(b"%063d\n" % last)
        view.show(Racing(2))
    told = b"warning: 2 messages missing here: nobody took them in time\nracing 2 servers?\n"
    assert printer.hear(told).endswith(told)
