"""The catalog document while it is edited: the last good snapshot, swapped whole; a bad edit never takes effect."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from gateway.catalog.learned import Learned
from gateway.catalog.load import Checked, read_catalog
from gateway.catalog.places import FilePlace, Place, StorePlace
from gateway.catalog.problems import SHOWN, InvalidCatalog
from gateway.catalog.reading import parse_elsewhere
from gateway.catalog.schema import CatalogEntry
from gateway.catalog.secrets import stamps
from gateway.catalog.snapshot import Snapshot
from gateway.catalog.versions import Versions
from gateway.catalog.warnings import find_edited_prices
from gateway.errors import CatalogError
from gateway.log import get_logger

T = TypeVar("T")
OnChange = Callable[[Snapshot], None]


def default_catalog_path() -> Path:
    """`catalog.yaml` of the working directory, else the shipped one, installed or in the source tree."""
    here = Path("catalog.yaml")
    installed = Path(__file__).with_name("catalog.yaml")
    in_tree = Path(__file__).parents[2] / "catalog.yaml"
    return next((path for path in (here, installed) if path.is_file()), in_tree)


class CatalogSource:
    """Holds the snapshot in force. Requests take `current` once and keep it until they end."""

    current: Snapshot
    problem: str | None = None
    """Why the document as it stands now is not in force, every problem a line; None while it is."""

    def __init__(
        self,
        path: Path,
        env: Mapping[str, str],
        clock: Callable[[], float],
        on_change: OnChange = lambda snapshot: None,
    ) -> None:
        """Loads the first snapshot. `clock` gives seconds since the epoch; `on_change` is told of each later snapshot.

        Raises:
            InvalidCatalog: the document cannot take effect, and there is no earlier one to go on with.
        """
        self.path = path
        self._env = env
        self._clock = clock
        self._on_change = on_change
        self._log = get_logger("catalog")
        self._one_at_a_time = asyncio.Lock()
        self._place: Place = FilePlace(path)
        self._learned = Learned()
        text = read_catalog(path)
        self._checked = Checked(text, str(path))
        self.current = self._checked.compile(env, clock(), self._learned)
        self._seen, self._secrets = text, self.current.secret_files

    @property
    def text(self) -> bytes:
        """The document that is in force."""
        return self._checked.text

    @property
    def learned(self) -> Learned:
        """What is laid over the document."""
        return self._learned

    @property
    def entries(self) -> CatalogEntry:
        """The document that is in force, as it is written."""
        return self._checked.catalog

    async def follow(self, versions: Versions) -> None:
        """From now on takes the document from the store; the file is published where nothing is yet.

        Raises:
            CatalogError: what is published cannot take effect here.
            redis.exceptions.RedisError: the store does not answer.
        """
        if await versions.current() is None:
            await versions.publish(self.text, by="file", note=f"first start with {self.path.name}")
        self._place = StorePlace(versions)
        if not await self.reload():
            raise CatalogError(str(self.problem))

    async def reload(self) -> bool:
        """Reads document and secrets anew, off the loop. Whether what the document says is now in force."""
        async with self._one_at_a_time:
            try:
                text = await self._place.read()
                self._seen, self._secrets = text, stamps(self._secrets)
                checked = self._checked
                if text != checked.text or self._place.name != checked.file:
                    checked = await asyncio.to_thread(_aside, lambda: Checked(text, self._place.name, parse_elsewhere))
                await self._compile(checked)
            except InvalidCatalog as error:
                self.problem = str(error)
                told = [problem.at(error.file) for problem in error.problems[:SHOWN]]
                self._log.error("catalog_refused", version=self.current.version, problems=told)
                return False
            return True

    async def learn(self, learned: Learned) -> None:
        """Lays what was found out over the document in force; nothing happens where that is known already."""
        async with self._one_at_a_time:
            if learned != self._learned:
                self._learned = learned
                with contextlib.suppress(InvalidCatalog):  # the environment has changed; the next reload says how
                    await self._compile(self._checked)

    async def publish(
        self, text: bytes, *, by: str, note: str, expected: str | None = None, name: str | None = None
    ) -> Snapshot:
        """Writes a document where the catalog lives and puts it in force; gives its snapshot.

        `expected` is the version that it was made from; left out, whichever is in force. `by` is a key id. `name` is
        what problems and warnings call the document; left out, as where the catalog lives.

        Raises:
            InvalidCatalog: it could not take effect; nothing was written.
            CatalogError: another version is in force by now, or the document cannot be written.
        """
        called = name or self._place.name

        def compile_() -> Snapshot:
            return Checked(text, called, parse_elsewhere).compile(self._env, self._clock(), self._learned)

        async with self._one_at_a_time:
            snapshot = await asyncio.to_thread(_aside, compile_)
        await self._place.write(text, expected=expected or self.current.version, by=by, note=note)
        if self.current.version != snapshot.version and not await self.reload():
            raise CatalogError(str(self.problem))
        return snapshot

    async def watch(self) -> None:
        """Reloads whenever the document changes, or within seconds a file with a secret, until cancelled."""
        async for _ in self._place.changes():
            try:
                await self._reload_if_changed()
            except Exception:  # whatever was wrong with this document, the next one is to be seen
                self._log.exception("catalog_reload_failed")

    async def _compile(self, checked: Checked) -> None:
        """Puts a document in force; the caller holds the lock."""
        now = self._clock()
        snapshot = await asyncio.to_thread(_aside, lambda: checked.compile(self._env, now, self._learned))
        edited = find_edited_prices(self.current, snapshot, now)
        snapshot = replace(snapshot, warnings=(*snapshot.warnings, *edited))
        self.problem = None
        self.current, self._checked, self._secrets = snapshot, checked, snapshot.secret_files
        self._log.info("catalog_loaded", version=snapshot.version, warnings=len(snapshot.warnings))
        for warning in edited:
            self._log.warning("catalog_price_edited", detail=warning)
        self._on_change(snapshot)

    async def _reload_if_changed(self) -> None:
        try:
            text = await self._place.read()
        except InvalidCatalog:
            await self.reload()
            return
        if text != self._seen or stamps(self._secrets) != self._secrets:
            await self.reload()


def _aside(work: Callable[[], T]) -> T:
    """Work in a thread that leaves no garbage to look through.

    A collection of garbage stops all threads for tens of milliseconds once it has a large catalog to look through, so
    it waits, and what was made is then left out of later ones: it holds no cycles, and goes with its last reference.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        return work()
    finally:
        if collects:
            gc.freeze()
            gc.enable()
