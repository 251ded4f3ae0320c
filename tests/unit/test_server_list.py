"""Lists of tens of thousands of servers: packed, kept, and raced a few hundred at a time."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from circumvent.api import Privacy
from circumvent.discovery.origins import keep, parse_origin, recall
from circumvent.discovery.window import Window
from circumvent.state.store import Store
from circumvent.wire.server_list import BLOCK, Packer, ServerList


def packed(count: int, weak: int = 0) -> ServerList:
    """So many servers, and ``weak`` more that hide less."""
    packer = Packer()
    for number in range(count + weak):
        privacy = Privacy.ENCRYPTED if number < count else Privacy.PLAIN
        packer.add(f"{number:010x}", privacy, f"ss://{number}@h.test:1")
    return packer.finish(1, 1000, 2000)


def test_links_come_out_as_they_went_in() -> None:
    servers = packed(150, weak=2)
    assert servers.count == 152
    assert servers.entries == tuple(f"ss://{number}@h.test:1" for number in range(152))
    assert servers.id_at(151) == f"{151:010x}"
    assert servers.classes() == {Privacy.ENCRYPTED: 150, Privacy.PLAIN: 2}
    assert servers.cut().entries == servers.entries[: 2 * BLOCK]
    assert "ss://" not in repr(servers)


def test_a_window_shows_all_that_hide_enough_before_it_shows_one_again() -> None:
    servers = packed(700, weak=300)
    window = Window(servers, Privacy.ENCRYPTED, {servers.id_at(123), servers.id_at(999)})
    turns = [window.turn() for _ in range(3)]
    assert turns[0][0] == "ss://123@h.test:1"
    assert {len(turn) for turn in turns} == {256}
    assert set().union(*turns) == set(servers.entries[:700])


def test_a_small_list_is_shown_as_a_whole() -> None:
    for count in (0, 1, 256):
        window = Window(packed(count, weak=9), Privacy.ENCRYPTED, ())
        assert window.is_all
        assert len(set(window.turn())) == len(window.turn()) == count


def test_a_list_outlives_the_process(tmp_path: Path) -> None:
    origin = parse_origin("https://provider.test/list?token=1#mine")
    assert (origin.sources, origin.name) == (("sub+https://provider.test/list?token=1",), "mine")
    with closing(Store(tmp_path / "state.db")) as store:
        keep(store.origins, origin)
        keep(store.origins, origin.learn(packed(1000), 1500.0))
    with closing(Store(tmp_path / "state.db")) as store:
        known = recall(store.origins, origin)
    assert known.bundle == packed(1000)
    assert [known.is_missing(now) for now in (1999.0, 2000.0)] == [False, True]
