"""Which fast tests have to find a fault in a module: those that begin with its name, or these."""

from __future__ import annotations

from pathlib import Path

ROOMS = ("wire", "memory", "net", "session", "tunnels", "discovery")

_PLACES = ("tests/unit", "tests/conformance")

_ENGINE = (
    *("session_carriers", "session_parts", "session_engine"),
    *("session_violations", "session_streams"),
)

_POOL = ("pool", "pool_memory", "pool_privacy", "network_change")
_DISPATCH = ("dispatch", "carried_bytes", "cuts", "failover")

# The longest beginning of a module's path counts.
_TESTS = {
    "discovery/": ("discovery", "discovery_hunt", "discovery_replay"),
    "discovery/origins": ("origins", "discovery"),
    "memory/": ("memory", "memory_properties"),
    "net/addresses": ("relay_egress", "guard"),
    "net/clock": ("backoff",),
    "net/descriptors": ("listener", "inbound_limits"),
    "net/dialer": ("udp", "http", "guard"),
    "net/listener": ("listener", "inbound_limits", "relay_listener"),
    "net/neighbourhood": ("handshake_queues",),
    "net/network": ("network",),
    "net/readiness": ("byte_streams", "udp"),
    "net/sockets": ("tcp", "byte_streams", "happy_eyeballs", "departures", "relay_egress"),
    "net/stagger": ("happy_eyeballs", "probe"),
    "net/tcp": ("tcp", "byte_streams", "pump"),
    "net/tcp_info": ("tcp", "departures"),
    "session/": ("session_streams", "bonded_tunnel", "relay_shares", "relay_pending"),
    "session/engine/": _ENGINE,
    "tunnels/bonded": ("bonded_tunnel", "carrier_handshakes"),
    "tunnels/carrier_routes": ("carrier_routes", "carrier_handshakes", "bonded_tunnel"),
    "tunnels/carry": _DISPATCH,
    "tunnels/dialer": ("tunnel_dialer",),
    "tunnels/dispatch": _DISPATCH,
    "tunnels/faults": ("dispatch", "health", "pool"),
    "tunnels/health": ("health", "freezes", "own_trouble"),
    "tunnels/live": ("dispatch", "health", "pool", "relief"),
    "tunnels/manager": _POOL,
    "tunnels/order": ("order", "race"),
    "tunnels/relay_transport": ("bonded_tunnel", "relay_link"),
    "tunnels/timings": ("pool", "health"),
    "tunnels/verdict": ("health", "freezes", "own_trouble"),
    "tunnels/vitals": ("health", "freezes"),
    "wire/base64url": ("links", "keys"),
    "wire/browser": ("probe", "http_carrier"),
    "wire/canonical_json": ("bundle",),
    "wire/credential": ("knock", "session_protocol"),
    "wire/dsse": ("bundle",),
    "wire/frames": ("session_protocol", "session_engine"),
    "wire/hello": ("session_protocol",),
    "wire/host_port": ("address", "links"),
    "wire/http_forwarding": ("forward",),
    "wire/link_text": ("links", "pasted"),
    "wire/opening": ("session_protocol",),
    "wire/request_header": ("transport_tunnels",),
    "wire/requested": ("address", "socks5"),
    "wire/websocket": ("websocket_codec",),
    "wire/websocket_handshake": ("websocket_codec", "websocket"),
}


def modules(root: Path, wanted: list[str]) -> list[str]:
    """Return the modules of the wanted rooms or files, as in ``wire`` and ``net/pump``."""
    package = root / "circumvent"
    paths = sorted(path for room in ROOMS for path in (package / room).rglob("*.py"))
    names = [str(path.relative_to(package).with_suffix("")) for path in paths]
    names = [name for name in names if not name.endswith("__init__")]
    return [name for name in names if any(_within(name, each) for each in wanted)]


def tests_of(root: Path, module: str) -> tuple[str, ...]:
    """Return the test files of a module, relative to the root.

    Raises:
        FileNotFoundError: There are none, or one that is named here is gone.
    """
    named = [key for key in _TESTS if module.startswith(key)]
    names = _TESTS[max(named, key=len)] if named else (f"{module.rpartition('/')[2]}*",)
    found = [
        [path for place in _PLACES for path in sorted((root / place).glob(f"test_{name}.py"))]
        for name in names
    ]
    if not all(found):
        raise FileNotFoundError(f"which tests are those of {module}? see tests/mutants/tests_of.py")
    return tuple(str(path.relative_to(root)) for paths in found for path in paths)


def _within(module: str, wanted: str) -> bool:
    return module == wanted or module.startswith(wanted.rstrip("/") + "/")
