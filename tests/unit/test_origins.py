"""Origins: what they remember between runs, and what a bundle may not tell them."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from circumvent.discovery.origins import Origin, keep, parse_origin, recall, saved_origins
from circumvent.links.invite import Invite, format_invite
from circumvent.state.store import Store
from circumvent.wire.bundle import Bundle, Trust
from tests.unit.conftest import OpenStore
from tests.unit.test_bundle import KEYS, LINKS


@pytest.fixture
def origin() -> Origin:
    return parse_origin(format_invite(Invite(Trust((KEYS[0],)), ("one:here",))))


@pytest.fixture
def store(tmp_path: Path, opened: OpenStore) -> Store:
    return opened(tmp_path / "state.db")


def bundle(version: int, *sources: str) -> Bundle:
    now = int(time.time())
    return Bundle(version, now - 60, now + 86400, LINKS, sources)


def test_an_origin_does_not_show_what_may_be_secret(origin: Origin) -> None:
    bucket = b"a secret key"
    shown = repr(replace(origin, bucket=bucket))
    assert origin.link not in shown
    assert repr(bucket) not in shown


def test_only_the_host_of_a_subscription_was_typed_by_the_user(origin: Origin) -> None:
    assert parse_origin("sub+https://lists.test:8443/secret").typed_host == "lists.test"
    assert origin.typed_host == ""


def test_saved_invites_come_back_until_they_are_forgotten(store: Store, origin: Origin) -> None:
    saved = replace(origin, saved=True)
    keep(store.origins, saved)
    assert saved_origins(store.origins) == [saved]
    assert store.origins.forget(origin.id)
    assert not store.origins.forget(origin.id)
    assert saved_origins(store.origins) == []


def test_an_origin_that_was_only_used_is_not_saved(store: Store, origin: Origin) -> None:
    keep(store.origins, origin)
    assert saved_origins(store.origins) == []


def test_forgetting_an_origin_forgets_its_notes(store: Store, origin: Origin) -> None:
    keep(store.origins, origin)
    store.origins.note(origin.id, "one:here", {"etag": "7"})
    assert store.origins.notes(origin.id, "one:here") == {"etag": "7"}
    store.origins.forget(origin.id)
    assert store.origins.notes(origin.id, "one:here") == {}


def test_notes_that_are_too_large_are_not_kept(store: Store, origin: Origin) -> None:
    store.origins.note(origin.id, "one:here", {"etag": "7" * 4096})
    assert store.origins.notes(origin.id, "one:here") == {}


def test_an_older_version_never_replaces_a_newer_one(store: Store, origin: Origin) -> None:
    keep(store.origins, origin.learn(bundle(9), time.time()))
    keep(store.origins, origin.learn(bundle(8), time.time()))
    recalled = recall(store.origins, origin)
    assert recalled.bundle is not None
    assert recalled.bundle.version == 9


def test_a_bundle_cannot_name_files_of_this_machine_as_sources(origin: Origin) -> None:
    learnt = origin.learn(bundle(1, "file:/etc", "FILE:-", "https://m.test/b"), time.time())
    assert learnt.sources == ("https://m.test/b", "one:here")
