"""Catalog versions that are no longer in force, compiled anew from the documents that the store keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from gateway.catalog.learned import Learned, Vanished
from gateway.catalog.load import Checked
from gateway.catalog.reading import parse_elsewhere
from gateway.catalog.snapshot import Snapshot
from gateway.errors import CatalogError

_MOST_KEPT = 4
"""Explanations ask for the same few versions in a row."""


class PastCatalogs:
    """`document` finds a version's text, `current` gives the snapshot in force, `clock` seconds since the epoch."""

    def __init__(
        self,
        document: Callable[[str], Awaitable[bytes | None]],
        current: Callable[[], Snapshot],
        env: Mapping[str, str],
        clock: Callable[[], float],
    ) -> None:
        self._document = document
        self._current = current
        self._env = env
        self._clock = clock
        self._compiled: dict[tuple[str, frozenset[tuple[str, str]]], Snapshot] = {}

    async def find(self, version: str, gone: Vanished | None = None) -> Snapshot | None:
        """The snapshot of a version; None where its document is not kept, or cannot be read by this release.

        `gone` are the models that had vanished by then; None where that is not known.

        Raises:
            redis.exceptions.RedisError: the store does not answer.
        """
        current = self._current()
        if current.version == version and (gone is None or gone == current.vanished):
            return current
        key = version, frozenset(gone or ())
        found = self._compiled.get(key)
        if found is None:
            text = await self._document(version)
            if text is None:
                return None
            try:
                found = await asyncio.to_thread(self._compile, text, version, gone or {})
            except CatalogError:
                return None
            if len(self._compiled) >= _MOST_KEPT:
                del self._compiled[next(iter(self._compiled))]
            self._compiled[key] = found
        return found

    def _compile(self, text: bytes, version: str, gone: Vanished) -> Snapshot:
        return Checked(text, version, parse_elsewhere).compile(self._env, self._clock(), Learned(vanished=gone))
