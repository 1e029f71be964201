"""A store whose answers get lost."""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path


class LossyProxy:
    """Stands between client and store; this share of answers is dropped with its connection, after it was applied."""

    def __init__(self, socket: Path, upstream: Path, share: float) -> None:
        self.socket, self.upstream, self.share = socket, upstream, share
        self.lost = 0
        self._chance = random.Random(11)
        self._tasks: list[asyncio.Task[None]] = []
        self._upstream_writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> LossyProxy:
        self._server = await asyncio.start_unix_server(self._serve, self.socket)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for writer in self._upstream_writers:
            writer.close()  # ends its connection's task
        await asyncio.gather(*self._tasks)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if task := asyncio.current_task():
            self._tasks.append(task)
        up_reader, up_writer = await asyncio.open_unix_connection(self.upstream)
        self._upstream_writers.append(up_writer)
        forward = asyncio.create_task(self._forward(reader, up_writer))
        with contextlib.suppress(OSError):
            while data := await up_reader.read(65536):
                if self._chance.random() < self.share:
                    self.lost += 1
                    break
                writer.write(data)
        writer.close()
        up_writer.close()
        await forward

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
