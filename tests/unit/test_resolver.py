"""Names of servers: asked once, in threads that nothing waits for, with a deadline."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from threading import Event, Semaphore

import pytest

from circumvent.errors import DialError
from circumvent.net import resolver
from circumvent.net.patience import Patience
from circumvent.net.resolver import Resolver
from tests.unit.local_sockets import until

SOON = 5.0  # seconds that nothing here takes


class NameService:
    """Knows every name; answers those that begin with ``hangs`` only once ``answers`` is set."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.entered = Semaphore(0)
        self.answers = Event()

    def __call__(self, name: str) -> tuple[str, ...]:
        self.asked.append(name)
        self.entered.release()
        if name.startswith("hangs"):
            self.answers.wait()
        return ("192.0.2.1",)


@pytest.fixture
def service() -> Iterator[NameService]:
    made = NameService()
    yield made
    made.answers.set()


async def test_the_system_knows_its_own_names() -> None:
    assert "127.0.0.1" in await Resolver().resolve("localhost")


@pytest.mark.parametrize("name", ["a" * 64 + ".example", "nul\0.example"])
async def test_what_is_no_name_does_not_resolve(name: str) -> None:
    with pytest.raises(DialError, match="does not resolve") as caught:
        await Resolver().resolve(name)
    assert caught.value.stage == "resolve"


async def test_a_look_up_takes_nothing_of_the_servers_time(service: NameService) -> None:
    with pytest.raises(DialError, match="no name server answered in time"):
        async with Patience(0.01):
            await Resolver(service, 0.05).resolve("hangs.example")
    service.answers.set()


async def test_a_name_that_hangs_has_a_deadline_and_its_late_answer_is_kept(
    service: NameService,
) -> None:
    names = Resolver(service, timeout=0.01)
    for _ in range(2):
        with pytest.raises(DialError, match="no name server answered in time") as caught:
            await names.resolve("hangs.example")
        assert caught.value.stage == "resolve"
    service.answers.set()
    await until(lambda: names.known("hangs.example") == ("192.0.2.1",))
    assert await names.resolve("hangs.example") == ("192.0.2.1",)
    assert service.asked == ["hangs.example"]


async def test_names_that_hang_do_not_hold_up_others(service: NameService) -> None:
    names = Resolver(service)
    hanging = [asyncio.create_task(names.resolve(f"hangs{n}.example")) for n in range(20)]
    async with asyncio.timeout(SOON):
        assert await names.resolve("quick.example") == ("192.0.2.1",)
    assert not any(task.done() for task in hanging)
    service.answers.set()
    await asyncio.gather(*hanging)


async def test_there_are_only_so_many_threads(service: NameService) -> None:
    names = Resolver(service, max_questions=3)
    waiting = [asyncio.create_task(names.resolve(f"hangs{n}.example")) for n in range(5)]
    for _ in range(3):
        await asyncio.to_thread(service.entered.acquire)
    await asyncio.sleep(0.01)
    assert len(service.asked) == 3
    service.answers.set()
    await asyncio.gather(*waiting)
    assert len(service.asked) == 5


async def test_a_caller_that_gives_up_does_not_take_the_answer_from_others(
    service: NameService,
) -> None:
    names = Resolver(service)
    one, other = (asyncio.create_task(names.resolve("hangs.example")) for _ in range(2))
    await asyncio.sleep(0)
    one.cancel()
    service.answers.set()
    assert await other == ("192.0.2.1",)
    assert service.asked == ["hangs.example"]


async def test_on_another_network_a_name_that_hangs_is_asked_for_anew(
    service: NameService,
) -> None:
    names = Resolver(service, timeout=0.01)
    for _ in range(2):
        with pytest.raises(DialError):
            await names.resolve("hangs.example")
        names.forget_all()
    service.answers.set()
    assert service.asked == ["hangs.example"] * 2


async def test_of_many_names_those_that_were_asked_for_last_are_kept(
    service: NameService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver, "_SERVERS", 2)
    names = Resolver(service)
    for name in ("a.test", "b.test", "a.test", "c.test"):
        names.doubt(name)
        await names.resolve(name)
    assert [names.known(f"{letter}.test") is not None for letter in "abc"] == [True, False, True]


HANGING = """
import asyncio, time
from circumvent.net.resolver import Resolver
from tests.unit.local_sockets import until

async def main():
    asking = asyncio.ensure_future(Resolver(lambda name: time.sleep(600)).resolve("hangs.example"))
    await asyncio.wait((asking,), timeout=0.05)

asyncio.run(main())
"""


def test_a_name_that_hangs_does_not_hold_up_the_end() -> None:
    subprocess.run([sys.executable, "-c", HANGING], check=True)  # the test's own time is limited


async def test_what_was_known_still_helps_where_no_name_server_answers() -> None:
    answers: list[tuple[str, ...]] = [("192.0.2.1",)]

    def ask(_: str) -> tuple[str, ...]:
        if not answers:
            raise OSError("temporary failure in name resolution")
        return answers.pop()

    names = Resolver(ask)
    assert await names.resolve("server.test") == ("192.0.2.1",)
    assert names.known("server.test") == ("192.0.2.1",)
    names.doubt("server.test")
    assert names.known("server.test") is None
    assert await names.resolve("server.test") == ("192.0.2.1",)
    with pytest.raises(DialError):
        await names.resolve("other.test")
