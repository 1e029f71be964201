"""What the fault tests share: a store that keeps its data, and a provider with a bill."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from billing import Bill, billing_provider
from fakes import FakeProvider
from stores import StoreServer


@pytest.fixture
def kept_store() -> Iterator[StoreServer]:
    """A running store with an append-only file, for one test alone."""
    with tempfile.TemporaryDirectory(prefix="tg-") as folder:
        server = StoreServer(Path(folder), "--appendonly", "yes", "--appendfsync", "everysec")
        server.start()
        yield server
        server.stop()


@pytest.fixture
def bill(tmp_path: Path) -> Bill:
    folder = tmp_path / "bills"
    folder.mkdir()
    return Bill(folder)


@pytest.fixture
def fake(bill: Bill) -> Iterator[FakeProvider]:
    with billing_provider(bill) as provider:
        yield provider
