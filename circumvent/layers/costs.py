"""What TLS allocates outside of the arena, for layers and plugins that declare costs."""

from __future__ import annotations

from circumvent.api import Cost

# One OpenSSL connection on a socket: in its handshake, and open; idle ones were measured at
# 25 KiB.
TLS_COST = Cost(dial=60 * 1024, stream=35 * 1024)
# The same inside another stream: its two memory BIOs keep more (42 KiB, and 24 on a socket:
# python -m tests.bench.layers).
INNER_TLS_COST = Cost(dial=70 * 1024, stream=52 * 1024)
