"""One target under atheris, which never returns: ``python -m tests.fuzz.child TARGET ...``."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["circumvent", "circumvent_plugins", "dns", "urllib"]):
    from tests.fuzz.targets import TARGETS, dns_message

    dns_message(b"")  # dnspython comes in with the first message

name, *options = sys.argv[1:]
# libFuzzer starts its first argument again, by the shell, to merge inputs.
atheris.Setup([f"{sys.executable} -m tests.fuzz.child {name}", *options], TARGETS[name])
atheris.Fuzz()
