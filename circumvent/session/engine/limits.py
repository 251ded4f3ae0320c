"""Limits of the session with their reasons, in seconds and bytes."""

from __future__ import annotations

from dataclasses import dataclass

# --- acknowledgements -----------------------------------------------------------------------

ACK_BYTES = 64 * 1024  # acknowledge at once after so many: a quarter of a fast path's cap
ACK_DELAY = 0.010  # or after so long: what a cap allows for on top of the round trip

# --- bytes on the way -----------------------------------------------------------------------

FIRST_RATE = 2e6  # bytes per second; what a path is taken for until it shows its rate
FIRST_CAP = 128 * 1024  # until then, per carrier, at least: eight frames keep acks coming
LARGEST_FIRST_CAP = 512 * 1024  # and at most: what a slow path then holds delays everything
LEAST_CAP = 64 * 1024  # four frames; below, a carrier idles between acknowledgements
LEAST_DRAINED_CAP = 32 * 1024  # while looking for the round trip without a queue
CAP_GAIN = 1.5  # times what the path holds; 2 gains nothing and doubles the reordering
TURN = 0.005  # what one stream may send before it is the next one's turn; a frame at least
FAST_RATE = 12.5e6  # bytes per second; from there on a run of four frames takes no longer than 5 ms
MAX_UNACKED_FRAMES = 1024  # per session: so a receiver never has more gaps than that

# --- paths ----------------------------------------------------------------------------------

DRAIN_EVERY = 10.0  # a standing queue passes for distance: let it run empty and look again
FIRST_DRAIN = 1.0  # the first look; the handshake's round trip may have been exceptional
DRAIN_SECONDS = 0.1  # how long to look
RATE_WINDOW = 1.0  # the fastest of the last one to two of these, or of 8 round trips

RECONSIDER = 0.02  # frames wait for a fast carrier: it may have become slow meanwhile

# --- suspicion and death --------------------------------------------------------------------

LEAST_PATIENCE = 0.2  # without progress: longer than the usual pauses of Wi-Fi and LTE
LEAST_LIFE = 3.0  # silence after which a carrier is dead, if another one is not silent
ALL_SILENT = 10.0  # if all are silent it is the network, and it may come back
LATE_LOOP = 0.12  # our own process was late: silence then proves nothing
PING_AFTER = 20.0  # of silence: NATs forget a flow after 30 s and more
PING_JITTER = 0.5  # part of it is drawn anew each time: a regular clock would be a fingerprint
PADS = 16  # at most so many frames follow each PING and PONG and make its length vary
FIRST_PADS = 32  # at most so many follow HELLO and WELCOME
PONG_PATIENCE = 1.0  # an idle carrier whose answer takes longer is suspected
ASK_PATIENCE = 0.05  # for an answer on a live carrier about a lost one, beside its round trips
FINAL_COUNTS = 16  # dead carriers whose final count is repeated on each new carrier

KEPT_SECONDS = 90.0  # without carriers: a train in a tunnel, a router that restarts

# --- streams --------------------------------------------------------------------------------

FIRST_WINDOW = 64 * 1024  # what an opener may send before it receives a WINDOW
LEAST_WINDOW = 16 * 1024  # one frame
LARGEST_FIRST_WINDOW = 1024 * 1024  # a page's largest objects come without waiting for more
FIRST_CREDIT = 64 * 1024  # of the whole session, until the peer's first WINDOW is read
MAX_GAPS = MAX_UNACKED_FRAMES  # pieces out of order
STALL_CHECK = 1.0  # how often to look for streams that are not read, while credit is exhausted
STALLED_AFTER = 5.0  # the session is full of unread data: cut the longest-stalled stream

RETRY_MEMORY = 0.1  # the arena was full: others may have given something back

# --- useless frames---------------------------------------------------------------------------

MAX_USELESS = 8192  # frames that bring nothing new, at once: a fault repeats up to 1024 frames
USELESS_PER_SECOND = 2000.0


# --- memory ---------------------------------------------------------------------------------

LEAST_SEND = 128 * 1024  # eight frames on the way
LEAST_RECEIVE = 256 * 1024  # half of it is granted: two windows of an opener
GRANTED_SHARE = 2  # half: blocks are not always full, and stalled readers must not hold up others
MOST_SEND = 2 << 20  # 60 Mbit/s over three paths of up to 150 ms hold less than one of them
MOST_RECEIVE = 4 << 20  # half of it is granted: twice what those paths can be behind


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """What one session may use, in bytes and streams.

    ``send``: bytes of blocks with data on the way or queued; ``receive``: bytes that the peer
    may send ahead of our readers; ``streams``: how many the peer may have open.
    """

    send: int = MOST_SEND
    receive: int = MOST_RECEIVE
    streams: int = 512

    @property
    def sure(self) -> int:
        """Memory that a session must always have: for all that it grants, and to go on sending."""
        return self.receive // GRANTED_SHARE + LEAST_SEND

    @classmethod
    def beside(cls, arena: int) -> SessionLimits:
        """Limits for the only session in an arena of so many bytes."""
        return cls(
            send=min(max(arena // 8, LEAST_SEND), MOST_SEND),
            receive=min(max(arena // 4, LEAST_RECEIVE), MOST_RECEIVE),
        )
