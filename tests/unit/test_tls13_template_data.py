"""Templates as a bundle brings them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circumvent.wire.tls13.browsers import TEMPLATES
from circumvent.wire.tls13.captured import CHROME
from circumvent.wire.tls13.hello import make_hello
from circumvent.wire.tls13.template_data import MAX_SIZE, read_template, write_template
from circumvent.wire.tls13.templates import EchGrease, Template

ALL = CHROME.extensions


@pytest.mark.parametrize("name", TEMPLATES)
def test_written_and_read(name: str) -> None:
    assert read_template(write_template(TEMPLATES[name])) == TEMPLATES[name]


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (replace(CHROME, ciphers=(0xC02B,)), "TLS 1.3"),
        (replace(CHROME, versions=(0x0303,)), "TLS 1.3"),
        (replace(CHROME, shares=(0x0100,)), "cannot make"),
        (replace(CHROME, shares=(0x0A0A,)), "cannot make"),
        (replace(CHROME, extensions=(*ALL, 0x002A)), "cannot do"),
        (replace(CHROME, extensions=(*ALL, 0x0029)), "cannot do"),
        (replace(CHROME, extensions=(*ALL, 0x0000)), "twice"),
        (replace(CHROME, extensions=ALL[1:]), "one end only"),
        (replace(CHROME, extensions=tuple(c for c in ALL if c != 0x33)), "misses"),
        (replace(CHROME, fixed=((0x33, b""),)), "different each time"),
        (replace(CHROME, not_with_ticket=(0x2B,)), "has a ticket"),
        (replace(CHROME, groups=(1,) * 65), "too long"),
        (replace(CHROME, ciphers=(0x1301, 0x10000)), "too large"),
        (replace(CHROME, ech_grease=EchGrease((), ())), "ECH"),
        (replace(CHROME, ech_grease=EchGrease((1,), (9000,))), "ECH"),
        (replace(CHROME, alpn=("x" * 256,)), "protocol"),
        (replace(CHROME, fixed=((0x21, bytes(9000)),)), "too large"),
    ],
)
def test_what_this_client_cannot_speak(template: Template, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_template(write_template(template))


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"name": 1}', bytes(MAX_SIZE + 1)])
def test_what_is_no_template(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read_template(data)


@given(st.binary(max_size=40), st.integers(0, 2000))
def test_spoiled_templates_are_refused_or_spoken(noise: bytes, at: int) -> None:
    data = write_template(CHROME)
    try:
        template = read_template(data[:at] + noise + data[at + len(noise) :])
    except ValueError:
        return
    assert make_hello(template, "site.example").message()
