"""Many callers at once, all of one provider."""

from __future__ import annotations

import asyncio
import json
import resource
from pathlib import Path
from typing import cast

import answers
from fake_catalog import catalog_for
from fakes import FakeProvider
from raw_peer import Session, listening
from running import APP_KEY, RunningGateway, start_gateway
from talk import HELLO

AT_ONCE = 600
"""More than the files that a process may open by default are enough for, with two for each."""
_SOFT_LIMIT = 1024


def _event(value: object) -> bytes:
    data = b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


async def test_many_streams_of_one_provider_are_open_at_once(tmp_path: Path) -> None:
    """Each has its own connection to the provider, however few files a process may open before it asks for more."""
    all_begun = asyncio.Event()

    async def provider(session: Session) -> None:
        await session.request()
        await session.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        await session.send(_event(answers.chunk({"role": "assistant", "content": "wait"})))
        await all_begun.wait()
        await session.send(
            _event(answers.chunk({}, finish_reason="stop")) + _event(answers.usage_chunk()) + _event(b"[DONE]")
        )
        await session.send(b"0\r\n\r\n")

    async def caller(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = json.dumps({"model": "fast", "messages": HELLO, "stream": True}).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: here\r\nauthorization: Bearer %b\r\n" % APP_KEY.encode()
        writer.write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))
        head = await reader.readuntil(b"\r\n\r\n")
        begun.append(head)
        if len(begun) == AT_ONCE:
            all_begun.set()
        rest = await reader.readuntil(b"0\r\n\r\n")
        writer.close()
        return rest

    begun: list[bytes] = []
    async with listening(provider) as peer:
        catalog = catalog_for(cast(FakeProvider, peer), tmp_path / "catalog.yaml", {"fast": ["one"]})
        gateway = await asyncio.to_thread(_started_with_few_files, tmp_path / "gateway", catalog)
        try:
            async with asyncio.timeout(60):
                answered = await asyncio.gather(*[caller(gateway.port) for _ in range(AT_ONCE)])
        finally:
            assert await asyncio.to_thread(gateway.stop) == 0
        assert all(head.startswith(b"HTTP/1.1 200 ") for head in begun)
        assert all(b"data: [DONE]\n\n" in rest for rest in answered)
        assert peer.accepted == AT_ONCE


def _started_with_few_files(folder: Path, catalog: Path) -> RunningGateway:
    """A gateway whose soft limit of open files is what many systems give; the test itself may open more."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_SOFT_LIMIT, most))
    try:
        return start_gateway(folder, catalog=catalog)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4 * AT_ONCE), most))
