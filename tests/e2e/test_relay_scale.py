"""A relay with 1,000 sessions of three carriers each: what it holds and what it spends."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.relay_load import load_relay


@pytest.mark.prove
@pytest.mark.timeout(280)
async def test_a_thousand_sessions(tmp_path: Path) -> None:
    await load_relay(tmp_path, sessions=1000, carriers=3)
