"""Headless Chromium with an empty profile."""

from collections.abc import Callable, Sequence
from pathlib import Path

from tests.peers.process import Process, free_port

TIMEOUT = 40.0  # seconds for one page; it takes about 3
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--no-first-run", "--disable-sync", "--disable-quic"),
    *("--disable-background-networking", "--disable-component-update"),
    "--ignore-certificate-errors",  # those of the test's own sites, whose authority nobody knows
)
# A process namespace of its own: none of its helpers outlives it.
ALONE = ("unshare", "--pid", "--mount-proc", "--fork", "--kill-child")


def browse(
    url: str,
    folder: Path,
    *,
    proxy_port: int | None,
    wrap: Callable[[Sequence[str]], Sequence[str]] = list,
) -> str:
    """Everything that Chromium prints: the page after it was loaded, and complaints."""
    run = free_port()
    proxy = f"--proxy-server=socks5://127.0.0.1:{proxy_port}" if proxy_port else "--no-proxy-server"
    profile = f"--user-data-dir={folder / f'profile-{run}'}"
    command = wrap([*ALONE, "chromium", *QUIET, profile, proxy, "--dump-dom", url])
    with Process(command, folder / f"chromium-{run}.log") as chromium:
        chromium.wait(TIMEOUT)
        return chromium.log
