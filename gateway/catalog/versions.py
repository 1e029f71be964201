"""Versions of the catalog document in the store: each one that was in force, and which one is."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from typing import Any

import msgspec

from gateway.errors import CatalogError
from gateway.storage.client import Store

DOCUMENTS = "{catalog}:documents"
CURRENT = "{catalog}:current"
LOG = "{catalog}:log"
KEPT = 200
"""Publications that are remembered; a document goes with the last publication that names it."""

# KEYS current, documents, log; ARGV expected ("*" for any), version, document, publication, kept
_PUBLISH = """
local current = redis.call('GET', KEYS[1]) or ''
if current == ARGV[2] then return 1 end
if ARGV[1] ~= '*' and ARGV[1] ~= current then return 0 end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
redis.call('SET', KEYS[1], ARGV[2])
redis.call('LPUSH', KEYS[3], ARGV[4])
if redis.call('LLEN', KEYS[3]) > tonumber(ARGV[5]) then
  local gone = cjson.decode(redis.call('RPOP', KEYS[3])).version
  for _, kept in ipairs(redis.call('LRANGE', KEYS[3], 0, -1)) do
    if cjson.decode(kept).version == gone then return 1 end
  end
  redis.call('HDEL', KEYS[2], gone)
end
return 1
"""


class Publication(msgspec.Struct, frozen=True):
    """A document's coming into force."""

    version: str
    at: float
    """Seconds since the epoch."""
    by: str
    """Key id of who published it; `file` for a document that was found in the catalog file."""
    note: str


class VersionConflict(CatalogError):
    """Another version is in force than the one that a change was made from."""


class UnknownVersion(CatalogError):
    """No document of this version is kept."""


_publications = msgspec.json.Decoder(Publication)


def version_of(text: bytes) -> str:
    """The version of a document: the first 12 hex digits of its SHA-256."""
    return hashlib.sha256(text).hexdigest()[:12]


class Versions:
    """The published documents. Every method may raise `redis.exceptions.RedisError`."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        """`clock` gives seconds since the epoch."""
        self._store: Any = store
        self._clock = clock

    async def publish(self, text: bytes, *, by: str, note: str = "", expected: str | None = None) -> Publication:
        """Makes a document, already checked, the one in force. Publishing what is in force changes nothing.

        Raises:
            VersionConflict: another version than `expected` is in force.
        """
        made = Publication(version_of(text), self._clock(), by, note)
        arguments = (expected or "*", made.version, zlib.compress(text), msgspec.json.encode(made), KEPT)
        done = await self._store.execute_command("EVAL", _PUBLISH, 3, CURRENT, DOCUMENTS, LOG, *arguments)
        if not done:
            raise VersionConflict(
                f"the catalog in force is {await self.current()}, no longer {expected}; look at it and try again"
            )
        return made

    async def current(self) -> str | None:
        """The version that was published last; None before the first."""
        found: bytes | None = await self._store.execute_command("GET", CURRENT)
        return None if found is None else found.decode()

    async def document(self, version: str) -> bytes:
        """The text of a version; a beginning of its name is enough where only one is kept that has it.

        Raises:
            UnknownVersion: none is kept, or several begin so.
        """
        text: bytes | None = await self._store.execute_command("HGET", DOCUMENTS, version)
        if text is None:
            kept: list[bytes] = await self._store.execute_command("HKEYS", DOCUMENTS)
            fitting = [name for name in kept if version and name.startswith(version.encode())]
            if len(fitting) == 1:
                text = await self._store.execute_command("HGET", DOCUMENTS, fitting[0])
        if text is None:
            raise UnknownVersion(f"no catalog version {version[:20]!r} is kept; the history lists those that are")
        try:
            return zlib.decompress(text)
        except zlib.error:
            raise UnknownVersion(f"catalog version {version} was changed in the store by another hand") from None

    async def history(self, limit: int = KEPT) -> list[Publication]:
        """The newest publications, newest first."""
        lines: list[bytes] = await self._store.execute_command("LRANGE", LOG, 0, limit - 1)
        return [_publications.decode(line) for line in lines]
