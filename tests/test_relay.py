"""A relayed stream whose reader is slow and whose task is cancelled, as at the end of a drain."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.api import chat


class _Slow:
    """A caller's end that takes a piece, but is cancelled while it waits for it to be read."""

    def __init__(self, patience: int) -> None:
        self.got: list[bytes] = []
        self.patience = patience

    def reply(self, status: int, lines: bytes) -> None: ...

    async def write(self, data: bytes, *, more: bool = False) -> None:
        self.got.append(data)
        self.patience -= 1
        if not self.patience:
            raise asyncio.CancelledError


async def _chunks(pieces: list[bytes]) -> Any:
    for piece in pieces:
        yield piece


@pytest.mark.parametrize("patience", [1, 2])
async def test_what_went_out_does_not_go_out_again(monkeypatch: pytest.MonkeyPatch, patience: int) -> None:
    """The piece that was being written when the stop came stands once before the error that ends the stream."""
    monkeypatch.setattr(chat, "_lines", lambda exchange, call: b"")
    stream = SimpleNamespace(finished=False, failure=None, output_bytes=0, feed=lambda data: data)
    response = SimpleNamespace(chunks=lambda: _chunks([b"two", b"three"]))
    call: Any = SimpleNamespace(stream=stream, response=response, first=b"one", fail=lambda error: None)
    exchange: Any = SimpleNamespace(caller_left=False, request_id="req_1", planned=None, failures=[])
    inbound: Any = _Slow(patience)
    await chat.relay(exchange, call, inbound)
    *before, last = inbound.got
    assert before == [b"one", b"two"][:patience]
    assert last.startswith(b'data: {"error":')
