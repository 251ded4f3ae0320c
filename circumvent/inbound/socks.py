"""SOCKS5, SOCKS4 and SOCKS4a at the front door; names are passed on unresolved."""

from __future__ import annotations

from circumvent.errors import CircumventError, DestinationError, ProtocolError, Reason
from circumvent.inbound.connection import ClientConnection
from circumvent.wire import socks4, socks5
from circumvent.wire.socks5 import REPLIES, Reply

# RFC 1928 §6 has no reply for a time-out; this is what other proxies send, and clients expect.
_REASONS = {
    Reason.FAILURE: Reply.GENERAL_FAILURE,
    Reason.FORBIDDEN: Reply.NOT_ALLOWED,
    Reason.NETWORK_UNREACHABLE: Reply.NETWORK_UNREACHABLE,
    Reason.HOST_UNREACHABLE: Reply.HOST_UNREACHABLE,
    Reason.REFUSED: Reply.REFUSED,
    Reason.TIMED_OUT: Reply.TTL_EXPIRED,
}


async def serve_socks5(visit: ClientConnection, greeting: socks5.Greeting) -> None:
    """RFC 1928 from the greeting on."""
    if not await _log_in(visit, greeting):
        return
    try:
        request = await visit.take(socks5.parse_request, socks5.MAX_MESSAGE)
    except ProtocolError:
        await visit.farewell(REPLIES[Reply.GENERAL_FAILURE])
        return
    if request.destination is not None:
        await visit.relay(request.destination, REPLIES[Reply.SUCCEEDED], _socks5_refusal)
    elif request.command != socks5.CONNECT:
        await visit.farewell(REPLIES[Reply.COMMAND_UNSUPPORTED])
    else:
        await visit.farewell(REPLIES[Reply.ADDRESS_UNSUPPORTED])


async def _log_in(visit: ClientConnection, greeting: socks5.Greeting) -> bool:
    """Choose a method and check the password, if one is configured (RFC 1929)."""
    credentials = visit.house.options.credentials
    method = socks5.NO_LOGIN if credentials is None else socks5.USER_PASSWORD
    if method not in greeting.methods:
        await visit.farewell(socks5.NO_ACCEPTABLE_METHOD)
        return False
    if credentials is None:
        await visit.say(socks5.CHOOSE_NO_LOGIN)
        return True
    await visit.say(socks5.CHOOSE_USER_PASSWORD)
    login = await visit.take(socks5.parse_login, socks5.MAX_MESSAGE)
    if not credentials.match(login.username, login.password):
        await visit.farewell(socks5.LOGIN_REFUSED)
        return False
    await visit.say(socks5.LOGIN_ACCEPTED)
    return True


async def serve_socks4(visit: ClientConnection) -> None:
    """SOCKS4 and SOCKS4a; refused where a password is configured, for they carry none."""
    try:
        request = await visit.take(socks4.parse_request, socks4.MAX_MESSAGE)
    except ProtocolError:
        await visit.farewell(socks4.REJECTED)
        return
    if request.destination is None or visit.house.options.credentials is not None:
        await visit.farewell(socks4.REJECTED)
    else:
        await visit.relay(request.destination, socks4.GRANTED, lambda _: socks4.REJECTED)


def _socks5_refusal(error: CircumventError) -> bytes:
    if isinstance(error, DestinationError):
        return REPLIES[_REASONS[error.reason]]
    return REPLIES[Reply.GENERAL_FAILURE]
