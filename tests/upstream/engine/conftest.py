"""Every test of the engine runs on asyncio's own loop and on uvloop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest_asyncio
import uvloop

from gateway.upstream.engine import Engine


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest_asyncio.fixture
async def engine() -> AsyncIterator[Engine]:
    """An engine with the shipped limits; it must leave no connection open."""
    engine = Engine()
    yield engine
    await engine.aclose()
    assert engine.open_connections == 0
