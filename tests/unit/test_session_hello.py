"""Carriers join a session only with its secret, on the channel that it was proven for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from circumvent.api import ServerEntry
from circumvent.session.handshake import RefusedError, send_hello
from circumvent.wire.frames import CloseReason
from circumvent.wire.hello import Attach, Create, attach_proof
from tests.bonding.relays import CREDENTIAL, ClearCarrier, Relay, running_relay
from tests.virtual.network import MemoryDialer

NAME, SECRET = bytes(16), bytes(range(32))


async def join(relay: Relay, hello: Create | Attach) -> None:
    account = relay.memory.account("client")
    entry = ServerEntry("relay", "127.0.0.1", relay.port, "", "relay://x", None)
    pipe = await ClearCarrier().connect(entry, MemoryDialer().for_plugins, account)
    if isinstance(hello, Create):
        hello = replace(hello, credential=CREDENTIAL + pipe.binding)
    try:
        await send_hello(pipe.stream, account, hello)
    finally:
        pipe.stream.abort()


@pytest.mark.parametrize("number", [1, 2])
async def test_a_proof_is_good_on_its_own_channel_only(number: int) -> None:
    async with running_relay() as relay:
        await join(relay, Create(1, NAME, SECRET, b""))
        proof = attach_proof(SECRET, NAME, number, b"another channel")
        with pytest.raises(RefusedError) as caught:
            await join(relay, Attach(number, NAME, proof))
        assert caught.value.reason is CloseReason.UNKNOWN_SESSION


async def test_a_session_cannot_be_taken_over_by_creating_it_again() -> None:
    async with running_relay() as relay:
        await join(relay, Create(1, NAME, SECRET, b""))
        with pytest.raises(RefusedError) as caught:
            await join(relay, Create(2, NAME, bytes(32), b""))
        assert caught.value.reason is CloseReason.REFUSED


async def test_a_number_is_good_once() -> None:
    async with running_relay() as relay:
        await join(relay, Create(1, NAME, SECRET, b""))
        with pytest.raises(RefusedError):
            await join(relay, Create(1, NAME, SECRET, b""))
