"""The catalog file while it is edited."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.catalog.problems import InvalidCatalog
from gateway.catalog.snapshot import Snapshot
from gateway.catalog.source import CatalogSource, default_catalog_path

NOW = 1_795_219_200.0


def write(path: Path, text: str) -> None:
    path.write_text(text)


def remove(path: Path) -> None:
    path.unlink()


class Watched:
    """A source that is watching, and what it has told."""

    def __init__(self, path: Path) -> None:
        self.told: list[Snapshot] = []
        self._changed = asyncio.Event()
        self.source = CatalogSource(path, {}, lambda: NOW, self._note)
        self.task = asyncio.create_task(self.source.watch())

    def _note(self, snapshot: Snapshot) -> None:
        self.told.append(snapshot)
        self._changed.set()

    async def next(self) -> Snapshot:
        """The next snapshot that comes into force."""
        await asyncio.wait_for(self._changed.wait(), 20)
        self._changed.clear()
        return self.told[-1]


@pytest.fixture
def path(tmp_path: Path, document: str) -> Path:
    file = tmp_path / "mounted" / "catalog.yaml"
    file.parent.mkdir()
    file.write_text(document)
    return file


@pytest.fixture
async def watched(path: Path) -> AsyncIterator[Watched]:
    watched = Watched(path)
    await asyncio.sleep(0.3)  # until the folder is watched
    yield watched
    watched.task.cancel()
    await asyncio.gather(watched.task, return_exceptions=True)


async def test_an_edit_takes_effect_while_it_runs(watched: Watched, path: Path, document: str) -> None:
    """A new tier is there a moment after the file was written."""
    before = watched.source.current
    write(path, document.replace("aliases:", "  extra: {models: [gpt-5-mini]}\naliases:"))
    after = await watched.next()
    assert "extra" in after.tiers
    assert "extra" not in before.tiers
    assert watched.source.current is after


async def test_a_file_replaced_by_renaming_is_seen(watched: Watched, path: Path, document: str) -> None:
    """As editors and configuration management do it."""
    fresh = path.with_name("catalog.new")
    fresh.write_text(document.replace("precise:", "exact:"))
    fresh.rename(path)
    assert set((await watched.next()).presets) == {"exact"}


async def test_a_failure_that_nobody_expected_does_not_end_the_watch(
    watched: Watched, path: Path, document: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next look takes up the edit at which it came."""

    async def fail() -> bool:
        monkeypatch.undo()
        raise LookupError

    monkeypatch.setattr(watched.source, "reload", fail)
    write(path, document.replace("precise:", "exact:"))
    assert set((await watched.next()).presets) == {"exact"}


async def test_a_mounted_volume_that_moves_a_link_is_seen(tmp_path: Path, document: str) -> None:
    """The file is a link through a folder link, which is swapped."""
    for version, name in (("v1", "precise"), ("v2", "exact")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "catalog.yaml").write_text(document.replace("precise:", f"{name}:"))
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "catalog.yaml").symlink_to("..data/catalog.yaml")
    watched = Watched(tmp_path / "catalog.yaml")
    await asyncio.sleep(0.3)
    (tmp_path / "..tmp").symlink_to("v2")
    os.replace(tmp_path / "..tmp", tmp_path / "..data")
    assert set((await watched.next()).presets) == {"exact"}
    watched.task.cancel()
    await asyncio.gather(watched.task, return_exceptions=True)


async def test_a_bad_edit_keeps_the_last_good_snapshot(path: Path, document: str) -> None:
    """The problem is kept for health and log until the document is good again."""
    told: list[Snapshot] = []
    source = CatalogSource(path, {}, lambda: NOW, told.append)
    before = source.current
    write(path, document.replace("policy: [healthy", "policy: [helthy"))
    assert not await source.reload()
    assert source.current is before
    assert source.problem is not None
    assert source.problem.startswith(f"{path}:37: tiers.fast.policy[0]: unknown policy 'helthy'")
    write(path, document.replace("precise:", "exact:"))
    assert await source.reload()
    assert source.problem is None
    assert told == [source.current]


@pytest.mark.parametrize(
    ("old", "new", "warned"),
    [
        ('"0.25"', '"0.26"', True),
        (
            "    deployments:",
            "      - {from: 2027-01-01, usd_per_mtok: {input: 1, output: 2}, source: x, checked: 2026-11-20}\n"
            "    deployments:",
            False,
        ),
    ],
    ids=["edited", "appended"],
)
async def test_an_edited_price_row_is_warned_of(path: Path, document: str, old: str, new: str, warned: bool) -> None:
    """Rows are appended; one that was edited takes effect, but is not passed over in silence."""
    source = CatalogSource(path, {}, lambda: NOW)
    write(path, document.replace(old, new, 1))
    assert await source.reload()
    said = [warning for warning in source.current.warnings if "was edited or removed" in warning]
    assert len(said) == warned
    assert all(warning.startswith("price gpt-5-mini@2025-08-07.") for warning in said)


async def test_a_file_that_vanishes_changes_nothing(path: Path) -> None:
    """It is a problem, not the end of the catalog."""
    source = CatalogSource(path, {}, lambda: NOW)
    before = source.current
    remove(path)
    assert not await source.reload()
    assert source.current is before
    assert source.problem == f"{path}: cannot be read: No such file or directory"


async def test_a_reload_reads_secrets_again(path: Path, document: str, tmp_path: Path) -> None:
    """A rotated key file is taken up without any change of the document."""
    key = tmp_path / "key"
    write(key, "first")
    write(path, document.replace("env:OPENAI_API_KEY", f"file:{key}"))
    source = CatalogSource(path, {}, lambda: NOW)
    write(key, "second")
    assert await source.reload()
    api_key = source.current.providers["openai"].api_key
    assert api_key is not None
    assert api_key.reveal() == "second"


async def test_a_rotated_key_file_is_noticed(path: Path, document: str, tmp_path: Path) -> None:
    """Any change in the watched folder, or a few seconds, and the new key is in use; the document is as before."""
    key = tmp_path / "key"
    write(key, "first")
    write(path, document.replace("env:OPENAI_API_KEY", f"file:{key}"))
    watched = Watched(path)
    await asyncio.sleep(0.3)
    write(key, "second")
    write(path.with_name("beside"), "")
    api_key = (await watched.next()).providers["openai"].api_key
    assert api_key is not None
    assert api_key.reveal() == "second"
    watched.task.cancel()
    await asyncio.gather(watched.task, return_exceptions=True)


def test_a_bad_document_at_start_is_refused(path: Path) -> None:
    """There is no last good one to go on with."""
    write(path, "providers: {}\nmodels: []\n")
    with pytest.raises(InvalidCatalog, match=r"catalog.yaml:2: models: must be a mapping, not a list"):
        CatalogSource(path, {}, lambda: NOW)


def test_the_working_folders_catalog_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the one that ships with the project."""
    monkeypatch.chdir(tmp_path)
    shipped = default_catalog_path()
    assert shipped.is_file()
    assert shipped.is_absolute()
    (tmp_path / "catalog.yaml").touch()
    assert default_catalog_path() == Path("catalog.yaml")
