"""TLS as a layer: what is asked for. The engine is that of the connection's route."""

from __future__ import annotations

from dataclasses import dataclass, replace

from circumvent.api.cost import Cost
from circumvent.api.layer import Dial, StreamLayer
from circumvent.api.streams import ByteStream, SecureStream
from circumvent.api.tls import TlsOptions
from circumvent.errors import EchRejectedError, OldTlsError
from circumvent.layers.costs import TLS_COST


@dataclass(frozen=True, slots=True)
class TlsLayer(StreamLayer):
    """TLS on a connection that a dialer gave, or inside of a stream over one."""

    options: TlsOptions

    @property
    def cost(self) -> Cost:
        return TLS_COST

    def over(self, dial: Dial) -> Dial:
        async def dial_and_start() -> ByteStream:
            return await self.dial(dial)

        return dial_and_start

    async def dial(self, dial: Dial) -> SecureStream:
        """Dial and start.

        A server is dialled again if it has no TLS 1.3, for it needs OpenSSL; or once if it gave
        another ECH key, which is then forgotten (RFC 9849 §6.1.6).
        """
        try:
            return await self.start(await dial())
        except OldTlsError:
            return await self.start(await dial())
        except EchRejectedError as error:
            if not error.retry_configs:
                raise
            again = TlsLayer(replace(self.options, ech=error.retry_configs))
            return await again.start(await dial())

    async def start(self, stream: ByteStream) -> SecureStream:
        """Shake hands over ``stream`` and own it, when it is its turn.

        Raises HandshakeError, BudgetError, and DialError when too many handshakes were seen.
        """
        shown = self.options.server_name if self.options.send_name else ""
        try:
            async with stream.route.handshake(stream.peer, shown):
                return await stream.route.tls.start(stream, self.options)
        except BaseException:
            await stream.aclose()
            raise
