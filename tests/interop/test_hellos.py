"""Our ClientHellos are those of the browsers on this machine, but for what is drawn anew."""

import pytest

from circumvent.wire.tls13.browsers import TEMPLATES
from circumvent.wire.tls13.captured import READ_FROM
from tests.hellos.browsers import BROWSERS, capture, major
from tests.hellos.templates import compare, read_off


@pytest.mark.parametrize("name", BROWSERS)
def test_pages_and_websockets_with_tickets_and_without(name: str) -> None:
    """An older browser than ours has another hello: then the engine is held against it alone."""
    captured = capture(BROWSERS[name])
    assert [use for use, _, records in captured.uses if not records] == []
    assert list(compare(read_off(name, captured), captured)) == []
    if captured.major >= major(READ_FROM[name]):
        assert list(compare(TEMPLATES[name], captured)) == [], "`make hellos WRITE=1` mends it"
