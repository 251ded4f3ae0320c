"""Bonded sessions: streams over several carriers to one relay. A stream outlives its carriers.

The package ``engine`` does no I/O: time, randomness and memory are passed in. The modules beside
it drive it: ``session`` keeps the clock, ``carrier_io`` moves the bytes of one carrier, and
``session_stream`` is a stream for its users.
``docs/session-protocol.md`` describes what goes over the wire.
"""
