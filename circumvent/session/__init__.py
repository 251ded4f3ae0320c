"""Bonded sessions: streams over several carriers to one relay, which outlive each of them.

``engine`` and what it is made of do no I/O: time, randomness and memory are handed in.
``docs/session-protocol.md`` describes what goes over the wire.
"""
