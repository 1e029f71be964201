"""Where the catalog document lives: in a file, or in the store for a fleet of gateways."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

from redis.exceptions import RedisError
from watchfiles import awatch

from gateway.catalog.load import read_catalog
from gateway.catalog.problems import InvalidCatalog, Problem
from gateway.catalog.versions import VersionConflict, Versions, version_of
from gateway.errors import CatalogError
from gateway.log import get_logger

_LOOK_AGAIN_MS = 5_000
"""How often the file is looked at even without a notice: network mounts send none, and links may be moved elsewhere."""
_POLL_S = 0.5
"""How often the store is asked which version is in force."""

_log = get_logger("catalog")


class Place(Protocol):
    """Where a document is read from and written to."""

    @property
    def name(self) -> str:
        """What messages call the document."""

    async def read(self) -> bytes:
        """The document as it stands now.

        Raises:
            InvalidCatalog: it cannot be read.
        """

    async def write(self, text: bytes, *, expected: str, by: str, note: str) -> None:
        """Replaces the document of version `expected`, whole.

        Raises:
            CatalogError: it has changed meanwhile (`VersionConflict`), or cannot be written.
        """

    def changes(self) -> AsyncIterator[None]:
        """Yields whenever the document may have changed, and every few seconds."""


class FilePlace:
    """A file. Its directory is watched: editors and mounted volumes replace the file, often by moving a link."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def name(self) -> str:
        return str(self._path)

    async def read(self) -> bytes:
        return await asyncio.to_thread(read_catalog, self._path)

    async def write(self, text: bytes, *, expected: str, by: str, note: str) -> None:
        found = version_of(await self.read())
        if found != expected:
            raise VersionConflict(f"{self._path} was edited meanwhile: it is {found}, no longer {expected}")
        try:
            await asyncio.to_thread(_replace, self._path.resolve(), text)
        except OSError as error:
            raise CatalogError(
                f"{self._path} cannot be written: {error.strerror}; edit it where it comes from"
            ) from None

    async def changes(self) -> AsyncIterator[None]:
        while True:
            try:
                async for _ in self._notices({self._path.absolute().parent, self._path.resolve().parent}):
                    yield
            except (OSError, RuntimeError) as error:  # a folder is gone, or no watches are left
                _log.warning("catalog_watch_failed", error=str(error))
                await asyncio.sleep(_LOOK_AGAIN_MS / 1000)
                yield

    async def _notices(self, folders: set[Path]) -> AsyncIterator[None]:
        """Ends once the file lies elsewhere."""
        changes = awatch(
            *folders,
            watch_filter=None,
            debounce=200,
            recursive=False,
            rust_timeout=_LOOK_AGAIN_MS,
            yield_on_timeout=True,
        )
        async for _ in changes:
            yield
            if self._path.resolve().parent not in folders:
                return


class StorePlace:
    """The store that a fleet shares."""

    name = "the published catalog"

    def __init__(self, versions: Versions) -> None:
        self._versions = versions

    async def read(self) -> bytes:
        try:
            version = await self._versions.current()
            return b"" if version is None else await self._versions.document(version)
        except CatalogError as error:
            raise InvalidCatalog(self.name, [Problem(0, "", f"cannot be read: {error}")]) from None
        except (RedisError, OSError) as error:
            message = f"cannot be read: the store does not answer ({type(error).__name__})"
            raise InvalidCatalog(self.name, [Problem(0, "", message)]) from None

    async def write(self, text: bytes, *, expected: str, by: str, note: str) -> None:
        await self._versions.publish(text, by=by, note=note, expected=expected)

    async def changes(self) -> AsyncIterator[None]:
        seen: str | None = None
        polls = 0
        while True:
            await asyncio.sleep(_POLL_S)
            polls += 1
            with contextlib.suppress(RedisError, OSError):  # what was published last stays in force meanwhile
                found = await self._versions.current()
                if found != seen or polls % 10 == 0:
                    seen = found
                    yield


def _replace(path: Path, text: bytes) -> None:
    """Puts a whole new file in the place of one, with the same permissions; readers see the old one or the new one."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, path.stat().st_mode & 0o777)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
