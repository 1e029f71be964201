"""What the gateways that share a store know of each other's catalog, and what they learned together."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

import msgspec
from redis.exceptions import RedisError

from gateway.catalog.findings import Findings
from gateway.catalog.source import CatalogSource
from gateway.catalog.verify import KeyChecks
from gateway.catalog.versions import Versions
from gateway.log import get_logger
from gateway.storage.client import Store

SEEN = "{catalog}:seen"
_SAID_AGAIN_S = 5.0
_FORGOTTEN_S = 15.0
_RECORDED = "found in the catalog file"


class Member(msgspec.Struct, frozen=True):
    """One process, as it last said of itself."""

    name: str
    """Host and process id."""
    version: str
    """The catalog that it serves by."""
    problem: str | None
    """Why the document as it stands now is not in force there."""
    at: float
    """Seconds since the epoch."""


_member = msgspec.json.Decoder(Member)


class Fleet:
    """Tells the store which catalog this process serves by, and takes up what any of them has learned."""

    def __init__(
        self,
        store: Store,
        source: CatalogSource,
        versions: Versions | None,
        findings: Findings,
        checks: KeyChecks,
        clock: Callable[[], float],
    ) -> None:
        """`versions` is where loaded documents are remembered; None where they come from there in the first place."""
        self._store: Any = store
        self._source = source
        self._versions = versions
        self._findings = findings
        self._checks = checks
        self._clock = clock
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        """Tells this process from the others."""
        self._recorded = ""
        self._said: tuple[str, str | None] | None = None
        self._said_at = 0.0
        self._away = False
        self._log = get_logger("catalog")

    async def members(self) -> list[Member]:
        """Every process that spoke lately, by name."""
        found = await self._store.execute_command("HVALS", SEEN)
        alive = [m for text in found if (m := _member.decode(text)).at > self._clock() - _FORGOTTEN_S]
        return sorted(alive, key=lambda member: member.name)

    async def try_step(self) -> None:
        """One round, in the background. A store that is away delays this and nothing else."""
        try:
            await self.step()
            self._away = False
        except (RedisError, OSError, msgspec.DecodeError) as error:
            if not self._away:
                self._log.warning("catalog_store_away", error=type(error).__name__)
            self._away = True

    async def step(self) -> None:
        """One round: what was learned, what was loaded, what this process serves by.

        Raises:
            redis.exceptions.RedisError: the store does not answer.
        """
        source, now = self._source, self._clock()
        await source.learn(await self._findings.learned(self._checks.unusable(source)))
        version = source.current.version
        if self._versions is not None and version != self._recorded:
            await self._versions.publish(source.text, by="file", note=_RECORDED)
            self._recorded = version
        if (version, source.problem) != self._said or now - self._said_at >= _SAID_AGAIN_S:
            said = msgspec.json.encode(Member(self.name, version, source.problem, now))
            await self._store.execute_command("HSET", SEEN, self.name, said)
            self._said, self._said_at = (version, source.problem), now
            await self._forget(now)

    async def leave(self) -> None:
        """Says that this process ends."""
        await self._store.execute_command("HDEL", SEEN, self.name)

    async def _forget(self, now: float) -> None:
        found = await self._store.execute_command("HVALS", SEEN)
        gone = [m.name for text in found if (m := _member.decode(text)).at <= now - _FORGOTTEN_S]
        if gone:
            await self._store.execute_command("HDEL", SEEN, *gone)
