"""SOCKS5, SOCKS4 and SOCKS4a at the inbound; names are passed on unresolved."""

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


async def serve_socks5(connection: ClientConnection, greeting: socks5.Greeting) -> None:
    """Serve a SOCKS5 client whose greeting was read (RFC 1928)."""
    if not await _log_in(connection, greeting):
        return
    try:
        request = await connection.read_message(socks5.parse_request, socks5.MAX_MESSAGE)
    except ProtocolError:
        await connection.close_with(REPLIES[Reply.GENERAL_FAILURE])
        return
    if request.destination is not None:
        await connection.carry(request.destination, REPLIES[Reply.SUCCEEDED], _socks5_refusal)
    elif request.command != socks5.CONNECT:
        await connection.close_with(REPLIES[Reply.COMMAND_UNSUPPORTED])
    else:
        await connection.close_with(REPLIES[Reply.ADDRESS_UNSUPPORTED])


async def _log_in(connection: ClientConnection, greeting: socks5.Greeting) -> bool:
    """Choose a method and check the password, if one is configured (RFC 1929)."""
    credentials = connection.context.options.credentials
    method = socks5.NO_LOGIN if credentials is None else socks5.USER_PASSWORD
    if method not in greeting.methods:
        await connection.close_with(socks5.NO_ACCEPTABLE_METHOD)
        return False
    if credentials is None:
        await connection.send(socks5.CHOOSE_NO_LOGIN)
        return True
    await connection.send(socks5.CHOOSE_USER_PASSWORD)
    login = await connection.read_message(socks5.parse_login, socks5.MAX_MESSAGE)
    if not credentials.match(login.username, login.password):
        await connection.close_with(socks5.LOGIN_REFUSED)
        return False
    await connection.send(socks5.LOGIN_ACCEPTED)
    return True


async def serve_socks4(connection: ClientConnection) -> None:
    """Serve a SOCKS4 or SOCKS4a client; refused where a password is set, which they cannot give."""
    try:
        request = await connection.read_message(socks4.parse_request, socks4.MAX_MESSAGE)
    except ProtocolError:
        await connection.close_with(socks4.REJECTED)
        return
    if request.destination is None or connection.context.options.credentials is not None:
        await connection.close_with(socks4.REJECTED)
    else:
        await connection.carry(request.destination, socks4.GRANTED, lambda _: socks4.REJECTED)


def _socks5_refusal(error: CircumventError) -> bytes:
    if isinstance(error, DestinationError):
        return REPLIES[_REASONS[error.reason]]
    return REPLIES[Reply.GENERAL_FAILURE]
