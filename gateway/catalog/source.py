"""The catalog file while it is edited: the last good snapshot, swapped whole; a bad edit never takes effect."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from watchfiles import awatch

from gateway.catalog.load import compile_text, read_catalog
from gateway.catalog.problems import InvalidCatalog
from gateway.catalog.secrets import stamps
from gateway.catalog.snapshot import Snapshot
from gateway.catalog.warnings import find_edited_prices
from gateway.log import get_logger

OnChange = Callable[[Snapshot], None]
_LOOK_AGAIN_MS = 5_000
"""How often the file is looked at even without a notice: network mounts send none, and links may be moved elsewhere."""


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
        text = read_catalog(path)
        self.current = compile_text(text, str(path), env, clock())
        self._seen, self._secrets = text, self.current.secret_files

    @property
    def text(self) -> bytes:
        """The document that was read last."""
        return self._seen

    async def reload(self) -> bool:
        """Reads document and secrets anew, off the loop. Whether what the file says is now in force."""
        async with self._one_at_a_time:
            try:
                text = await asyncio.to_thread(read_catalog, self.path)
                self._seen, self._secrets = text, stamps(self._secrets)
                snapshot = await asyncio.to_thread(compile_text, text, str(self.path), self._env, self._clock())
            except InvalidCatalog as error:
                self.problem = str(error)
                self._log.error(
                    "catalog_refused", version=self.current.version, problems=[p.at(error.file) for p in error.problems]
                )
                return False
            edited = find_edited_prices(self.current, snapshot, self._clock())
            snapshot = replace(snapshot, warnings=(*snapshot.warnings, *edited))
            self.problem = None
            self.current, self._secrets = snapshot, snapshot.secret_files
            self._log.info("catalog_loaded", version=snapshot.version, warnings=len(snapshot.warnings))
            for warning in edited:
                self._log.warning("catalog_price_edited", detail=warning)
            self._on_change(snapshot)
            return True

    async def watch(self) -> None:
        """Reloads whenever the file's content changes, or within seconds a file with a secret, until cancelled.

        Directories are watched, not the file: editors and mounted volumes replace it, often by moving a link.
        """
        while True:
            try:
                await self._watch_folders({self.path.absolute().parent, self.path.resolve().parent})
            except (OSError, RuntimeError) as error:  # a folder is gone, or no watches are left
                self._log.warning("catalog_watch_failed", error=str(error))
                await asyncio.sleep(_LOOK_AGAIN_MS / 1000)
                await self._reload_if_changed()

    async def _watch_folders(self, folders: set[Path]) -> None:
        """Watches until the file lies elsewhere."""
        changes = awatch(
            *folders,
            watch_filter=None,
            debounce=200,
            recursive=False,
            rust_timeout=_LOOK_AGAIN_MS,
            yield_on_timeout=True,
        )
        async for _ in changes:
            await self._reload_if_changed()
            if self.path.resolve().parent not in folders:
                return

    async def _reload_if_changed(self) -> None:
        try:
            text = await asyncio.to_thread(read_catalog, self.path)
        except InvalidCatalog:
            await self.reload()
            return
        if text != self._seen or stamps(self._secrets) != self._secrets:
            await self.reload()
