"""``circumvent run`` as a process: what it prints, how it stops, and its status."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.peers import socks
from tests.peers.process import accepts, free_port, in_namespace, with_file_over

GIVE_UP_AFTER = 30.0  # seconds: something hangs; on an idle machine nothing here takes five
SILENT = "127.0.0.54"  # where a name server hears and does not answer


class Origin(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: probes are cut as soon as they have their answer."""


@pytest.fixture
def origin() -> Iterator[int]:
    """The port of an HTTP server that answers 204; an unfinished request stays open."""
    with Server(("127.0.0.1", 0), Origin) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@dataclass(frozen=True, slots=True)
class Running:
    process: subprocess.Popen[str]
    port: int
    environment: dict[str, str]

    def next_event(self) -> dict[str, object]:
        assert self.process.stdout is not None
        event: dict[str, object] = json.loads(self.process.stdout.readline())
        return event

    def await_event(self, name: str) -> dict[str, object]:
        while (event := self.next_event())["event"] != name:
            pass
        return event

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return circumvent(self.environment, *arguments)


def circumvent(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "circumvent", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@pytest.fixture
def environment(tmp_path: Path, origin: int) -> dict[str, str]:
    return os.environ | {
        "XDG_CONFIG_HOME": str(tmp_path),
        "CIRCUMVENT_STATE_DIR": str(tmp_path),
        "CIRCUMVENT_PROBE_URL": f"http://127.0.0.1:{origin}/generate_204",
        "CIRCUMVENT_PRIVACY": "direct",
    }


@contextmanager
def started(
    environment: dict[str, str],
    *words: str,
    listen: str = "127.0.0.1:0",
    inside: Callable[[Sequence[str]], list[str]] = list,
) -> Iterator[Running]:
    """``inside`` puts the command into other surroundings."""
    command = [sys.executable, "-m", "circumvent", "run", *(words or ["direct://"])]
    with subprocess.Popen(
        inside([*command, "--json", "--listen", listen]),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            running = Running(process, 0, environment)
            port = int(str(running.await_event("listening")["address"]).rpartition(":")[2])
            yield Running(process, port, environment)
        finally:
            process.kill()
            process.communicate()


@pytest.fixture
def running(environment: dict[str, str]) -> Iterator[Running]:
    with started(environment) as client:
        client.await_event("tunnel_up")
        yield client


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + GIVE_UP_AFTER
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def test_events_come_as_json_lines(environment: dict[str, str]) -> None:
    with started(environment) as client:
        up = client.await_event("tunnel_up")
    assert up["transport"] == "direct"
    assert isinstance(up["ms"], float)
    assert isinstance(up["at"], float)


def test_without_json_lines_are_for_people(environment: dict[str, str]) -> None:
    command = [sys.executable, "-u", "-m", "circumvent", "run", "direct://"]
    with subprocess.Popen(
        [*command, "--listen", "127.0.0.1:0"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines: list[str] = []
        while not lines or not lines[-1].startswith("tunnel up: direct "):
            lines.append(process.stdout.readline())
            assert lines[-1], lines
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=GIVE_UP_AFTER)
    assert any(line.startswith("listening on 127.0.0.1:") for line in lines)
    assert "racing 1 server…\n" in lines
    assert "nothing is hidden from anybody" in errors


def test_a_terminal_shows_the_tunnels_live(environment: dict[str, str]) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "circumvent", "run", "direct://", "--listen", "127.0.0.1:0"]
    size = {"COLUMNS": "120", "LINES": "40", "TERM": "xterm"}
    with subprocess.Popen(command, env=environment | size, stdout=theirs) as process:
        os.close(theirs)
        shown = b""
        while not (b"tunnel up: direct" in shown and b"STREAMS" in shown):
            shown += os.read(ours, 65536)
        process.send_signal(signal.SIGINT)
        assert eventually(lambda: process.poll() is not None)
    os.close(ours)
    assert process.returncode == 0


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    with process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def stopped_terminal() -> Iterator[int]:
    """As after Ctrl-S."""
    ours, theirs = os.openpty()
    termios.tcflow(theirs, termios.TCOOFF)
    yield theirs
    os.close(ours)


@contextmanager
def vanished_terminal() -> Iterator[int]:
    ours, theirs = os.openpty()
    os.close(ours)
    yield theirs


@contextmanager
def full_pipe() -> Iterator[int]:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    yield writer
    os.close(reader)


@contextmanager
def full_disk() -> Iterator[int]:
    yield os.open("/dev/full", os.O_WRONLY)


@pytest.mark.parametrize("place", [stopped_terminal, vanished_terminal, full_pipe, full_disk])
def test_where_nobody_reads_traffic_goes_on_and_the_end_comes(
    environment: dict[str, str], origin: int, place: Callable[[], AbstractContextManager[int]]
) -> None:
    port = free_port()
    command = [sys.executable, "-m", "circumvent", "run", "direct://", "--verbose"]
    command += ["--listen", f"127.0.0.1:{port}"]
    with (
        place() as output,
        ended(subprocess.Popen(command, env=environment, stdout=output, stderr=output)) as process,
    ):
        os.close(output)
        assert eventually(lambda: accepts("127.0.0.1", port))
        for _ in range(2):
            with (
                socks.connect(port, "127.0.0.1", origin) as stream,
                socks.get(stream, "/") as response,
            ):
                assert response.status == 204
        process.send_signal(signal.SIGTERM)
        assert process.wait(GIVE_UP_AFTER) == 0


def test_without_standard_streams_it_runs_all_the_same(environment: dict[str, str]) -> None:
    port = free_port()
    command = [sys.executable, "-m", "circumvent", "run", "direct://", "--verbose"]
    command += ["--listen", f"127.0.0.1:{port}"]
    closing = ["sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-']
    with ended(subprocess.Popen([*closing, *command], env=environment)) as process:
        assert eventually(lambda: accepts("127.0.0.1", port))
        process.send_signal(signal.SIGTERM)
        assert process.wait(GIVE_UP_AFTER) == 0


@pytest.mark.parametrize("charset", ["koi8-r", "ascii:strict"])
def test_a_charset_that_lacks_a_character_is_no_reason_to_stop(
    environment: dict[str, str], charset: str
) -> None:
    environment |= {"PYTHONIOENCODING": charset}
    command = [sys.executable, "-m", "circumvent", "run", "direct://", "--listen", "127.0.0.1:0"]
    with ended(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)) as process:
        assert process.stdout is not None
        shown = b""
        while b"tunnel up" not in shown:
            shown += process.stdout.readline()
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(GIVE_UP_AFTER) == 0
    assert b"racing 1 server" in shown


def test_status_tells_about_the_running_client(running: Running) -> None:
    status = json.loads(running.command("status", "--json").stdout)["listen"]
    assert status == f"127.0.0.1:{running.port}"
    shown = running.command("status").stdout
    assert f"listening on 127.0.0.1:{running.port}, privacy direct" in shown
    assert "warning: direct" in shown


def test_the_health_check_passes_traffic(running: Running) -> None:
    done = running.command("status", "--check")
    assert (done.returncode, done.stdout[:4]) == (0, "ok ("), done.stderr


def test_the_health_check_fails_when_nothing_comes_through(running: Running) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
    done = running.command("status", "--check", "--probe-url", url)
    assert done.returncode == 1
    assert "nothing came through" in done.stderr


def test_the_health_check_logs_in(environment: dict[str, str], tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("sesame\n")
    password.chmod(0o600)
    environment |= {"CIRCUMVENT_USER": "ann", "CIRCUMVENT_PASSWORD_FILE": str(password)}
    with started(environment) as client:
        client.await_event("tunnel_up")
        assert client.command("status", "--check").returncode == 0
        password.write_text("wrong")
        assert "refused user or password" in client.command("status", "--check").stderr


def test_why_knows_about_it_afterwards(running: Running) -> None:
    running.process.send_signal(signal.SIGTERM)
    running.process.wait(GIVE_UP_AFTER)
    assert "ok" in {attempt["outcome"] for attempt in attempts_of(running)}


def test_kill_9_loses_nothing_that_was_saved(running: Running) -> None:
    running.command("servers", "add", "direct://")
    assert eventually(lambda: attempts_of(running) != [])
    running.process.kill()
    running.process.wait(GIVE_UP_AFTER)
    assert attempts_of(running) != []
    with started(running.environment) as again:
        again.await_event("tunnel_up")
        assert "direct" in again.command("servers", "list").stdout
        assert again.command("status").returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_an_idle_client_at_once(running: Running, number: signal.Signals) -> None:
    running.process.send_signal(number)
    assert running.await_event("draining")["streams"] == 0
    assert running.process.wait(GIVE_UP_AFTER) == 0


def test_the_first_signal_lets_open_streams_end(running: Running, origin: int) -> None:
    with socks.connect(running.port, "127.0.0.1", origin) as stream:
        running.process.send_signal(signal.SIGINT)
        assert running.await_event("draining")["streams"] == 1
        assert eventually(lambda: is_refused(running.port))
        with socks.get(stream, "/") as response:
            assert response.status == 204
    assert running.process.wait(GIVE_UP_AFTER) == 0


def test_the_second_signal_stops_at_once(running: Running, origin: int) -> None:
    with socks.connect(running.port, "127.0.0.1", origin):
        running.process.send_signal(signal.SIGINT)
        running.await_event("draining")
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(GIVE_UP_AFTER) == 130


def test_a_name_server_that_hangs_does_not_hold_up_the_end(
    environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text(f"nameserver {SILENT}\noptions timeout:30 attempts:5\n")  # outlasts the test
    command = [sys.executable, "-m", "circumvent", "run", "trojan://secret@server.example:443"]
    command = with_file_over("/etc/resolv.conf", file, [*command, "--listen", "127.0.0.1:0"])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((SILENT, 53))
        server.settimeout(GIVE_UP_AFTER)
        with ended(subprocess.Popen(command, env=environment)) as process:
            assert b"server" in server.recv(4096)
            process.send_signal(signal.SIGINT)
            assert process.wait(GIVE_UP_AFTER) == 0


WITHOUT_IPV6 = "ip link set lo up && echo 1 >/proc/sys/net/ipv6/conf/lo/disable_ipv6"


def test_where_ipv6_is_switched_off_localhost_is_served_all_the_same(
    environment: dict[str, str],
) -> None:
    inside = partial(in_namespace, "--net", WITHOUT_IPV6)
    with started(environment, listen="localhost:0", inside=inside) as client:
        client.process.send_signal(signal.SIGTERM)
        _, errors = client.process.communicate(timeout=GIVE_UP_AFTER)
    assert errors.count("only a part of localhost is served") == 1
    assert "this machine has no IPv6" in errors


def test_where_ipv6_is_switched_off_asking_for_it_is_an_error(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "circumvent", "run", "direct://", "--listen", "[::1]:0"]
    done = subprocess.run(
        in_namespace("--net", WITHOUT_IPV6, command),
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 3
    assert "cannot listen on ::1 port 0: this machine has no IPv6" in done.stderr


def test_saved_servers_are_used_from_where_nothing_can_be_kept(
    environment: dict[str, str], tmp_path: Path
) -> None:
    state = tmp_path / "state"
    environment |= {"CIRCUMVENT_STATE_DIR": str(state)}
    circumvent(environment, "servers", "add", "direct://")
    read_only = f"mount --bind '{state}' '{state}' && mount -o remount,bind,ro '{state}'"
    inside = partial(in_namespace, "--mount", read_only)
    with started(environment, "--tunnels", "1", inside=inside) as client:
        client.await_event("tunnel_up")
        client.process.send_signal(signal.SIGTERM)
        told, _ = client.process.communicate(timeout=GIVE_UP_AFTER)
    assert client.process.returncode == 0, told


def test_an_address_in_use_is_exit_code_5(environment: dict[str, str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        done = circumvent(environment, "run", "direct://", "--listen", listen)
    assert done.returncode == 5, done.stderr
    assert not (tmp_path / "control.sock").exists()


def test_a_second_client_in_the_same_place_is_exit_code_5(running: Running) -> None:
    done = running.command("run", "direct://", "--listen", "127.0.0.1:0")
    assert done.returncode == 5
    assert "another circumvent is running" in done.stderr
    assert running.command("status").returncode == 0


def test_a_server_below_the_privacy_floor_is_not_used(environment: dict[str, str]) -> None:
    done = circumvent(environment, "run", "direct://", "--privacy", "encrypted")
    assert done.returncode == 4
    assert "only when asked for with --privacy direct" in done.stderr


def test_a_server_can_be_tested_while_nothing_runs(environment: dict[str, str]) -> None:
    del environment["CIRCUMVENT_PRIVACY"]
    circumvent(environment, "servers", "add", "direct://")
    done = circumvent(environment, "servers", "test")
    assert (done.returncode, "ok (" in done.stdout) == (0, True), done.stderr


def test_a_server_that_does_not_work_fails_the_test_with_a_reason(
    environment: dict[str, str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        link = f"trojan://secret@127.0.0.1:{unused.getsockname()[1]}"
    done = circumvent(environment, "servers", "test", "--json", link)
    (trial,) = json.loads(done.stdout)
    assert (done.returncode, trial["ok"]) == (1, False)
    assert "refused" in trial["reason"].lower()


def attempts_of(client: Running) -> list[dict[str, object]]:
    attempts: list[dict[str, object]] = json.loads(client.command("why", "--json").stdout)
    return attempts


def is_refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), GIVE_UP_AFTER).close()
    except ConnectionRefusedError:
        return True
    return False
