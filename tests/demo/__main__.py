"""``make demo``: carriers are cut under a download, then a server dies; exit code 1 if it shows."""

import sys
import tempfile
import time
from pathlib import Path

from tests.demo.carriers import a_download_outlives_its_carriers
from tests.demo.servers import fetching_outlives_a_server
from tests.demo.telling import say
from tests.peers.destinations import serve_destinations


def main() -> int:
    """Play both parts."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name, serve_destinations(Path(name)) as site:
        downloaded = a_download_outlives_its_carriers(Path(name), site)
        good = fetching_outlives_a_server(Path(name), site) and downloaded
    took = time.monotonic() - began
    say(f"\n{'All went well' if good else 'SOMETHING WENT WRONG, see above'}; {took:.0f} s.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
