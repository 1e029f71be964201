"""The store of an installation: the one it names, or the embedded server of its data directory."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from gateway.storage.client import Store, connect, server_version
from gateway.storage.embedded import EmbeddedStore


@contextlib.asynccontextmanager
async def open_store(address: str | None, data_dir: Path) -> AsyncIterator[Store]:
    """A connected store. `address` as `connect()` takes it; None for the embedded one.

    Raises:
        StoreFailed: the embedded server cannot be started.
        StoreTooOld: the server named lacks commands that the gateway needs.
    """
    async with contextlib.AsyncExitStack() as stack:
        if address is None:
            embedded = EmbeddedStore(data_dir)
            await embedded.start()
            stack.push_async_callback(embedded.close)
            address = embedded.socket
        store = connect(address)
        stack.push_async_callback(store.aclose)
        await server_version(store)
        yield store
