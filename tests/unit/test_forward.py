"""Plain HTTP through the front door: requests in absolute form, and real curl."""

import asyncio
import hashlib
import socket
from collections.abc import Awaitable, Callable
from urllib.parse import quote, unquote_to_bytes

import h11
import pytest

from circumvent.errors import BudgetError
from circumvent.inbound.options import InboundOptions, InboundTimings
from tests.unit.far_side import until
from tests.unit.inbound_client import CREDENTIALS, RESET, SITE, Caller, cut_short, destination, home

BIG = 3_000_000
TRAILED = b"5\r\nhello\r\n" * 3 + b"0\r\nX: y\r\n\r\n"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter, bytes], Awaitable[None]]


async def site(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers by path; what it saw of the request's head is the body of most answers."""
    head = await reader.readuntil(b"\r\n\r\n")
    path = head.split(b" ", 2)[1].partition(b"?")[0]
    await ROUTES.get(path, show)(reader, writer, head)
    await writer.drain()


async def show(_: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(head), head))


async def summed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
    """The digest of the body, decoded by a second opinion on HTTP."""
    server = h11.Connection(h11.SERVER)
    server.receive_data(head)
    digest = hashlib.sha256()
    server.next_event()
    if server.they_are_waiting_for_100_continue:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    while not isinstance(event := server.next_event(), h11.EndOfMessage):
        if isinstance(event, h11.Data):
            digest.update(event.data)
        else:
            server.receive_data(await reader.read(65536))
    text = digest.hexdigest().encode()
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text))


async def early(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: bytes) -> None:
    writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")


async def chunked(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: bytes) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + TRAILED)


async def until_close(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: bytes) -> None:
    writer.write(b"HTTP/1.0 200 OK\r\n\r\nold style")


async def big(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: bytes) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG + b"x" * BIG)


async def truncated(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: bytes) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")


async def nothing(_: asyncio.StreamReader, __: asyncio.StreamWriter, ___: bytes) -> None:
    """Leave without an answer."""


async def no_content(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: bytes) -> None:
    writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")


async def not_modified(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: bytes) -> None:
    writer.write(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 50\r\nETag: x\r\n\r\n")


async def hop_by_hop(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: bytes) -> None:
    writer.write(
        b"HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nX-Case: kept\r\n"
        b"Keep-Alive: 5\r\nContent-Length: 0\r\n\r\n"
    )


async def odd(__: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
    """Say what the query says, and leave as it says."""
    words = unquote_to_bytes(head.split(b" ", 2)[1].partition(b"?")[2])
    words, resets, _ = words.partition(b"RESET")
    writer.write(words)
    await writer.drain()
    if resets:
        sock: socket.socket = writer.get_extra_info("socket")
        await asyncio.sleep(0.02)  # a reset overtakes what is not read yet
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


async def upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: bytes) -> None:
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nready "
    )
    while data := await reader.read(1000):
        writer.write(data)


ROUTES: dict[bytes, Handler] = {
    b"/sum": summed,
    b"/early": early,
    b"/chunked": chunked,
    b"/old": until_close,
    b"/big": big,
    b"/truncated": truncated,
    b"/nothing": nothing,
    b"/204": no_content,
    b"/304": not_modified,
    b"/hop": hop_by_hop,
    b"/odd": odd,
    b"/upgrade": upgrade,
}


def ask(port: int, path: str, *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    first = f"{method} http://{SITE}:{port}{path} HTTP/{version}"
    return "\r\n".join([first, "Host: a.lie", *headers, "", ""]).encode()


async def answer(caller: Caller, method: bytes = b"GET") -> tuple[h11.Response, bytes]:
    """One response as a second opinion on HTTP reads it; the connection stays usable."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    client.send(h11.EndOfMessage())
    body = b""
    response: h11.Response | None = None
    while True:
        event = client.next_event()
        if event is h11.NEED_DATA:
            client.receive_data(await caller.reader.read(65536))
        elif isinstance(event, h11.Response):
            response = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert response is not None
            assert client.trailing_data[0] == b""
            return response, body


async def test_the_origin_sees_its_own_path_and_host_and_nothing_of_the_hop() -> None:
    async with destination(site) as port, home() as house:
        caller = await house.knock()
        hop = ("Proxy-Connection: keep-alive", "Connection: x-hop", "X-Hop: 1", "TE: trailers")
        await caller.say(ask(port, "/a?b=c", *hop, "Proxy-Authorization: Basic eA==", "X-Kept: 1"))
        _, seen = await answer(caller)
        expected = ["GET /a?b=c HTTP/1.1", f"Host: {SITE}:{port}", "X-Kept: 1", "Connection: close"]
        assert seen.decode().split("\r\n") == [*expected, "", ""]
        caller.hang_up()


async def test_one_connection_serves_several_origins() -> None:
    async with destination(site) as one, destination(site) as two, home() as house:
        caller = await house.knock()
        for port, path in ((one, "/a"), (two, "/chunked"), (one, "/204"), (two, "/b")):
            await caller.say(ask(port, path))
            response, _ = await answer(caller)
            assert response.status_code in {200, 204}
        assert [asked.port for asked in house.dispatcher.asked] == [one, two, one, two]
        caller.hang_up()


async def test_pipelined_requests_are_answered_in_turn() -> None:
    async with destination(site) as port, home() as house:
        caller = await house.knock()
        post = ask(port, "/sum", "Content-Length: 3", method="POST") + b"abc"
        await caller.say(post + post + ask(port, "/204", "Connection: close"))
        answers = await caller.hear_out()
        assert answers.count(hashlib.sha256(b"abc").hexdigest().encode()) == 2
        assert b"204 No Content" in answers
        caller.hang_up()


@pytest.mark.parametrize("framing", ["Content-Length: 3000000", "Transfer-Encoding: chunked"])
async def test_a_big_body_goes_up(framing: str) -> None:
    async with destination(site) as port, home() as house:
        caller = await house.knock()
        body = b"x" * BIG
        await caller.say(ask(port, "/sum", framing, method="POST"))
        if "chunked" in framing:
            piece = b"186a0\r\n" + b"x" * 100_000 + b"\r\n"
            await caller.say(piece * 30 + b"0\r\nTrailer: 1\r\n\r\n")
        else:
            await caller.say(body)
        _, digest = await answer(caller)
        assert digest.decode() == hashlib.sha256(body).hexdigest()
        caller.hang_up()


async def test_a_big_body_comes_down_to_a_slow_reader_within_the_budget() -> None:
    async with destination(site) as port, home() as house:
        caller = await house.knock()
        before = house.memory.leased
        await caller.say(ask(port, "/big"))
        await asyncio.sleep(0.2)
        assert house.memory.leased == before  # nobody reads, and no block is held for it
        _, body = await answer(caller)
        assert body == b"x" * BIG
        caller.hang_up()


async def test_the_framing_fits_the_client() -> None:
    async with destination(site) as port, home() as house:
        expected = {
            ("/chunked", "1.1"): (b"Transfer-Encoding: chunked", TRAILED),
            ("/chunked", "1.0"): (b"Connection: close", b"hello" * 3),
            ("/old", "1.1"): (b"Connection: close", b"old style"),
            ("/old", "1.0"): (b"Connection: close", b"old style"),
        }
        for (path, version), (framing, body) in expected.items():
            caller = await house.knock()
            await caller.say(ask(port, path, version=version))
            caller.writer.write_eof()  # all is asked, which is not to leave
            head, _, got = (await caller.hear_out()).partition(b"\r\n\r\n")
            assert head.split(b"\r\n") == [b"HTTP/1.1 200 OK", framing]
            assert got == body
            caller.hang_up()


@pytest.mark.parametrize(("method", "path"), [("HEAD", "/a"), ("GET", "/204"), ("GET", "/304")])
async def test_answers_without_a_body(method: str, path: str) -> None:
    async with destination(site) as port, home() as house:
        caller = await house.knock()
        for _ in range(2):
            await caller.say(ask(port, path, method=method))
            response, body = await answer(caller, method.encode())
            assert body == b""
            assert response.status_code == int(path[1:]) if path != "/a" else 200
        caller.hang_up()


async def test_hop_by_hop_headers_of_the_origin_stay_with_it() -> None:
    async with destination(site) as port, home() as house:
        caller = await house.knock()
        await caller.say(ask(port, "/hop"))
        response, _ = await answer(caller)
        expected = [(b"X-Case", b"kept"), (b"Content-Length", b"0")]
        assert response.headers.raw_items() == expected
        caller.hang_up()


async def test_expect_100_continue() -> None:
    async with destination(site) as port, home() as house:
        caller = await house.knock()
        headers = ("Expect: 100-continue", "Content-Length: 3")
        await caller.say(ask(port, "/sum", *headers, method="POST"))
        assert (await caller.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        await caller.say(b"abc")
        _, digest = await answer(caller)
        assert digest.decode() == hashlib.sha256(b"abc").hexdigest()
        caller.hang_up()


async def test_an_answer_before_the_end_of_the_request_arrives() -> None:
    async with destination(site) as port, home() as house:
        caller = await house.knock()
        await caller.say(ask(port, "/early", "Content-Length: 100000", method="POST") + b"x" * 50)
        response, body = await answer(caller)
        assert (response.status_code, body) == (413, b"no")
        assert await caller.hear_out() == b""
        caller.hang_up()


async def test_an_upgrade_becomes_a_raw_pipe() -> None:
    async with destination(site) as port, home() as house:
        caller = await house.knock()
        await caller.say(ask(port, "/upgrade", "Connection: Upgrade", "Upgrade: echo"))
        head = await caller.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"\r\nUpgrade: echo\r\n" in head
        await caller.say(b"anything")
        assert await caller.hear(14) == b"ready anything"
        caller.writer.write_eof()
        assert await caller.hear_out() == b""
        caller.hang_up()


async def test_a_connect_may_follow_on_the_same_connection() -> None:
    async with destination(site) as port, home() as house:
        caller = await house.knock()
        await caller.say(ask(port, "/a"))
        await answer(caller)
        await caller.say(f"CONNECT {SITE}:{port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert b" 200 " in await caller.reader.readuntil(b"\r\n\r\n")
        await caller.say(b"GET /204 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 204 " in await caller.reader.readuntil(b"\r\n\r\n")
        caller.hang_up()


async def test_no_answer_is_a_bad_gateway() -> None:
    async with destination(site) as port, home() as house:
        caller = await house.knock()
        await caller.say(ask(port, "/nothing"))
        response, _ = await answer(caller)
        assert response.status_code == 502
        caller.hang_up()


async def test_a_truncated_answer_is_a_reset() -> None:
    async with destination(site) as port, home() as house:
        caller = await house.knock()
        await caller.say(ask(port, "/truncated"))
        with pytest.raises(ConnectionResetError):
            await caller.hear_out()


async def test_a_broken_request_body_is_a_bad_request() -> None:
    async with destination(site) as port, home() as house:
        caller = await house.knock()
        head = ask(port, "/sum", "Transfer-Encoding: chunked", method="POST")
        await caller.say(head + b"not hexadecimal\r\n")
        response, _ = await answer(caller)
        assert response.status_code == 400
        caller.hang_up()


OK = b"HTTP/1.1 200 OK\r\n"
COOKIES = b"".join(b"Set-Cookie: c%d=%b\r\n" % (number, b"v" * 3000) for number in range(80))


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        (
            OK + b"X-Odd : 1\r\nPHP Warning: x\r\nContent-Length: 2\r\n\r\nok",
            OK + b"X-Odd: 1\r\nContent-Length: 2\r\n\r\nok",
        ),
        (
            b"\r\nhttp/1.0 200\nContent-Length: 2, 2\n\nok and more that is not meant",
            b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok",
        ),
        (
            OK
            + b"Transfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n02 ;a\r\nok\r\n0\r\n\r\n+",
            OK + b"Transfer-Encoding: chunked\r\n\r\n02 ;a\r\nok\r\n0\r\n\r\n",
        ),
        (
            b"HTTP/1.1 103 Soon\r\nLink: x\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nokRESET",
            b"HTTP/1.1 103 Soon\r\nLink: x\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok",
        ),
        (
            OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nRESET",
            OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ),
        (b"HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\nno", b"HTTP/1.1 204 No\r\n\r\n"),
    ],
)
async def test_an_odd_answer_is_written_out_plainly_and_the_next_one_is_its_own(
    sent: bytes, seen: bytes
) -> None:
    async with destination(site) as port, home() as house:
        caller = await house.knock()
        await caller.say(ask(port, f"/odd?{quote(sent)}"))
        assert await caller.hear(len(seen)) == seen
        await caller.say(ask(port, "/304", "Connection: close"))
        assert (await caller.hear_out()).startswith(b"HTTP/1.1 304 Not Modified\r\n")
        caller.hang_up()


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (b"", b"there is none"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"ends before its head does"),
        (b"SSH-2.0-x\r\n", b"not of the form HTTP/1.1 STATUS REASON"),
        (b"HTTP/1.1 101 Go\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", b"nobody asked for"),
        (OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok", b"different lengths"),
        (b"HTTP/1.1 100 Continue\r\n\r\nSSH-2.0-x\r\n", b"not of the form"),
    ],
)
async def test_an_answer_that_is_no_http_is_the_fault_of_the_destination(
    sent: bytes, text: bytes
) -> None:
    async with destination(site) as port, home() as house:
        caller = await house.knock()
        await caller.say(ask(port, f"/odd?{quote(sent)}"))
        said = await caller.hear_out()
        assert b"HTTP/1.1 502 Bad Gateway\r\n" in said
        assert b"the destination's answer is not proper HTTP" in said
        assert text in said
        assert b"tunnel" not in said
        caller.hang_up()


async def test_a_stream_that_breaks_before_the_answer_is_blamed_on_the_tunnel() -> None:
    async with destination(cut_short) as port, home() as house:
        caller = await house.knock()
        await caller.say(ask(port, "/"))
        assert b"the tunnel failed" in await caller.hear_out()
        caller.hang_up()


@pytest.mark.parametrize(
    "sent",
    [
        OK + b"\r\nit goes on untilRESET",
        OK + b"Content-Length: 9\r\n\r\nshort",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nlonger\r\n0\r\n\r\n",
    ],
)
async def test_an_answer_that_was_cut_ends_in_a_reset(sent: bytes) -> None:
    async with destination(site) as port, home() as house:
        caller = await house.knock()
        await caller.say(ask(port, f"/odd?{quote(sent)}"))
        with pytest.raises(ConnectionResetError):
            await caller.hear_out()


async def test_a_long_head_comes_in_many_pieces() -> None:
    async def spell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        words = OK + COOKIES + b"Content-Length: 2\r\n\r\nok"
        for at in range(0, len(words), 40_000):
            writer.write(words[at : at + 40_000])
            await writer.drain()
            await asyncio.sleep(0.001)

    async with destination(spell) as port, home() as house:
        before = house.memory.leased
        caller = await house.knock()
        await caller.say(ask(port, "/"))
        seen = OK + COOKIES + b"Content-Length: 2\r\n\r\nok"
        assert await caller.hear(len(seen)) == seen
        assert house.memory.leased == before
        caller.hang_up()


@pytest.mark.parametrize(("size", "status"), [(300_000, b"502"), (200_000, b"503")])
async def test_a_head_without_end_or_without_memory_is_told(size: int, status: bytes) -> None:
    async def drone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + b"X: " + b"y" * size)
        await reader.read()

    async with destination(drone) as port, home() as house:
        account = house.memory.accounts["inbound"]
        if status == b"503":
            account.limit = account.durable + 100_000
        caller = await house.knock()
        await caller.say(ask(port, "/"))
        said = await caller.hear_out()
        assert said.startswith(b"HTTP/1.1 " + status)
        assert (b"256 KiB" if status == b"502" else b"out of memory") in said
        caller.hang_up()


async def test_a_head_that_stops_half_way_is_not_kept_for_ever() -> None:
    async def stop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"X: ")
        await reader.read()

    options = InboundOptions(port=0, timings=InboundTimings(answer_head=0.02))
    async with destination(stop) as port, home(options) as house:
        caller = await house.knock()
        await caller.say(ask(port, "/"))
        assert b"HTTP/1.1 504 " in await caller.hear_out()
        caller.hang_up()


async def test_without_memory_for_a_stream_the_client_hears_what_to_do() -> None:
    async with home() as house:
        house.dispatcher.failure = BudgetError("no room")
        for request in (ask(80, "/"), f"CONNECT {SITE}:80 HTTP/1.1\r\n\r\n".encode()):
            caller = await house.knock()
            await caller.say(request)
            said = await caller.hear_out()
            assert said.startswith(b"HTTP/1.1 503 ")
            assert b"out of memory: close other connections, or give it more" in said
            caller.hang_up()


async def test_an_old_client_hears_nothing_before_the_answer() -> None:
    async with destination(site) as port, home() as house:
        caller = await house.knock()
        early_hints = quote(b"HTTP/1.1 103 Soon\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok")
        await caller.say(ask(port, f"/odd?{early_hints}", version="1.0"))
        seen = OK + b"Content-Length: 2\r\nConnection: close\r\n\r\nok"
        assert await caller.hear_out() == seen
        caller.hang_up()


async def test_a_target_goes_on_with_its_raw_bytes() -> None:
    async with destination(site) as port, home() as house:
        caller = await house.knock()
        await caller.say(ask(port, "/ü/文件"))
        _, seen = await answer(caller)
        assert seen.startswith("GET /ü/文件 HTTP/1.1\r\n".encode())
        caller.hang_up()


@pytest.mark.parametrize("framing", ["Content-Length: 3", "Transfer-Encoding: chunked"])
async def test_what_follows_a_body_is_the_next_request(framing: str) -> None:
    async with destination(site) as port, home() as house:
        body = b"abc" if "Length" in framing else b"3\r\nabc\r\n0\r\nA: b\r\n\r\n"
        post = ask(port, "/sum", framing, method="POST") + body + b"\r\n"
        tunnel = f"CONNECT {SITE}:{port} HTTP/1.1\r\n\r\n".encode()
        caller = await house.knock()
        await caller.say(b"\r\n" + post + post + tunnel + b"GET /204 HTTP/1.1\r\n\r\n")
        for _ in range(2):
            _, digest = await answer(caller)
            assert digest.decode() == hashlib.sha256(b"abc").hexdigest()
        assert b" 200 " in await caller.reader.readuntil(b"\r\n\r\n")
        assert b" 204 " in await caller.reader.readuntil(b"\r\n\r\n")
        caller.hang_up()


@pytest.mark.parametrize(
    "body", [b"5\r\nabc\r\n0\r\n\r\n", b"3\nabc\n0\n\n", b"0\r\nHost: x\r\n\r\n"]
)
async def test_a_misframed_body_never_becomes_another_request(body: bytes) -> None:
    async with destination(site) as port, home() as house:
        caller = await house.knock()
        smuggled = ask(port, "/a")
        await caller.say(
            ask(port, "/sum", "Transfer-Encoding: chunked", method="POST") + body + smuggled
        )
        assert (await caller.hear_out()).startswith(b"HTTP/1.1 400 ")
        assert len(house.dispatcher.asked) == 1
        caller.hang_up()


async def test_a_body_that_its_client_breaks_off_is_a_bad_request() -> None:
    async with destination(site) as port, home() as house:
        caller = await house.knock()
        await caller.say(ask(port, "/sum", "Content-Length: 9", method="POST") + b"half")
        caller.writer.write_eof()
        assert (await caller.hear_out()).startswith(b"HTTP/1.1 400 ")
        caller.hang_up()


async def test_while_draining_every_answer_says_that_it_is_the_last() -> None:
    async with destination(site) as port, home() as house:
        caller = await house.knock()
        await caller.say(ask(port, "/sum", "Content-Length: 3", method="POST"))
        await asyncio.sleep(0.02)
        drained = asyncio.create_task(house.door.drain())
        await asyncio.sleep(0)
        await caller.say(b"abc")
        assert b"\r\nConnection: close\r\n" in await caller.hear_out()
        caller.hang_up()
        await drained


async def test_clients_may_leave_at_any_point() -> None:
    async with destination(site) as port, home() as house:
        words = ask(port, "/sum", "Content-Length: 9", method="POST") + b"123"
        for end in range(0, len(words), 3):
            caller = await house.knock()
            await caller.say(words[:end])
            caller.leave_with_a_reset() if end % 2 else caller.hang_up()
        await until(lambda: house.door.clients == 0)


async def test_drain_does_not_wait_for_resting_clients() -> None:
    async with destination(site) as port, home() as house:
        caller = await house.knock()
        await caller.say(ask(port, "/a"))
        await answer(caller)
        await house.door.drain()
        caller.hang_up()


async def test_every_request_shows_the_password() -> None:
    async with (
        destination(site) as port,
        home(InboundOptions(port=0, credentials=CREDENTIALS)) as house,
    ):
        caller = await house.knock()
        await caller.say(ask(port, "/a", "Proxy-Authorization: Basic bWU6czpjcmV0"))
        response, seen = await answer(caller)
        assert response.status_code == 200
        assert b"bWU6czpjcmV0" not in seen
        await caller.say(ask(port, "/a"))
        response, _ = await answer(caller)
        assert response.status_code == 407
        caller.hang_up()


# --- curl, whose reading of the protocols is not ours -----------------------------------------


async def curl(*arguments: str, body: bytes | None = None) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *("curl", "--silent", "--show-error", "--fail", "--max-time", "10", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={},
    )
    output, _ = await process.communicate(body)
    assert process.returncode == 0
    return output


@pytest.mark.parametrize(
    "way",
    [
        ("--socks5-hostname", "me:s:cret@127.0.0.1:{}"),
        ("--proxy-user", "me:s:cret", "--proxy", "http://127.0.0.1:{}"),
        ("--proxy-user", "me:s:cret", "--proxytunnel", "--proxy", "http://127.0.0.1:{}"),
    ],
)
async def test_curl_with_a_password(way: tuple[str, ...]) -> None:
    options = InboundOptions(port=0, credentials=CREDENTIALS)
    async with destination(site) as port, home(options) as house:
        arguments = [word.format(house.port) for word in way]
        got = await curl(*arguments, f"http://{SITE}:{port}/big")
        assert got == b"x" * BIG


@pytest.mark.parametrize(
    "way",
    [
        ("--socks5-hostname", "127.0.0.1:{}"),
        ("--socks4a", "127.0.0.1:{}"),
        ("--proxy", "http://127.0.0.1:{}"),
        ("--proxy1.0", "127.0.0.1:{}"),
        ("--proxytunnel", "--proxy", "http://127.0.0.1:{}"),
    ],
)
async def test_curl_without(way: tuple[str, ...]) -> None:
    async with destination(site) as port, home() as house:
        arguments = [word.format(house.port) for word in way]
        upload = ["--data-binary", "@-", "-H", "Transfer-Encoding: chunked"]
        digest = await curl(*arguments, *upload, f"http://{SITE}:{port}/sum", body=b"x" * BIG)
        assert digest.decode() == hashlib.sha256(b"x" * BIG).hexdigest()
        assert [asked.host for asked in house.dispatcher.asked] == [SITE]
