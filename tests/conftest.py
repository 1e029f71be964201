"""Fixtures for every test: a real store, clocks that are set by hand, and a judge of answers."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from clocks import SetClock
from conformance import Conformance
from redis.asyncio import Redis
from soak import SOAK
from stores import StoreServer

from gateway.storage.client import connect


@pytest.fixture
def clock() -> SetClock:
    """Seconds since the epoch: 2026-11-21T00:00:00Z until advanced."""
    return SetClock(1_795_219_200.0)


@pytest.fixture
def monotonic() -> SetClock:
    """Monotonic seconds: 1000 until advanced."""
    return SetClock(1000.0)


@pytest.fixture(scope="session")
def conforms() -> Conformance:
    """Judges answers as an OpenAI client would."""
    return Conformance()


@pytest.fixture(scope="session")
def soak() -> bool:
    """Whether to run at the size and against the bounds that the case names."""
    return SOAK


@pytest.fixture(scope="session")
def session_store() -> Iterator[StoreServer]:
    """The store that the tests of a session share."""
    with tempfile.TemporaryDirectory(prefix="tg-") as folder:
        server = StoreServer(Path(folder))
        server.start()
        yield server
        server.stop()


@pytest.fixture
async def own(own_store: StoreServer) -> AsyncIterator[Redis]:
    """A client of that store."""
    client = connect(str(own_store.socket))
    assert isinstance(client, Redis)
    yield client
    await client.aclose()


@pytest.fixture
def own_store() -> Iterator[StoreServer]:
    """A running store for one test alone, which may stop it."""
    with tempfile.TemporaryDirectory(prefix="tg-") as folder:
        server = StoreServer(Path(folder))
        server.start()
        yield server
        server.stop()


@pytest.fixture
async def store(session_store: StoreServer) -> AsyncIterator[Redis]:
    """An empty store."""
    client = session_store.client()
    await client.flushall()
    yield client
    await client.aclose()
