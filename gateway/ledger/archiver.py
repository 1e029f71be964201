"""Moves closed hours of the journal from the store to the archive; one process at a time does it for a tenant."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from gateway.ledger.archive import Archive, ArchiveFile, Record
from gateway.ledger.exchange import Script, source_of, tag
from gateway.ledger.lines import BEGINNING, Id, after, archived, id_of, id_text, lines_of, parse, parse_archived
from gateway.ledger.outbox import Alert
from gateway.log import get_logger
from gateway.storage.client import Store

log = get_logger(__name__)

MOST_RECORDS = 250_000
"""Longer journals in the store raise an alarm: nobody archives, or the archiver cannot keep up."""
SETTLED_S = 900
"""An hour is archived this long after its end: by then a store that failed over was told again what it had lost."""
FILE_BYTES = 2 * 1024 * 1024
"""A file holds about this much at most of what the store has, twice as much before compression, where lines are whole:
reading one entry means reading a file."""
_LEASE_MS = 120_000
_PAGE = 20
_EACH = 100
"""One line of so many is also understood, not only compared: that costs more than all the rest."""
_HOUR_MS = 3_600_000
_ARCHIVE = "archive"
"""The key that names the folder which belongs to this store, by its id."""

_decode = msgspec.msgpack.Decoder(bool).decode


class Unverified(Exception):
    """What was read back from the disk is not what the store has; nothing was removed."""


class Archiver:
    """Archives for one process. `archive=None` only watches the journals' length."""

    def __init__(self, store: Store, archive: Archive | None, owner: str, *, alert: Callable[[Alert], object]) -> None:
        self.records: dict[str, int] = {}
        """Tenant -> records of its journal in the store when last looked at."""
        self._store = store
        self._archive = archive
        self._owner = owner
        self._alert = alert
        self._script = Script(source_of("archive"))
        self._long: set[str] = set()
        self._said = False

    def allow_when_full(self) -> None:
        """Lets it work while the store is out of memory, which helps it; servers from version 7 on can."""
        self._script = Script("#!lua flags=allow-oom\n" + source_of("archive"))

    @property
    def in_use(self) -> bool:
        """Whether this process archives and reads what is archived."""
        return self._archive is not None and self._archive.attached

    @property
    def waits(self) -> bool:
        """Whether it is not known yet that the folder belongs to this store."""
        return self._archive is not None and not self._archive.attached

    async def attach(self) -> None:
        """Finds out whether the folder belongs to this store; the first folder that a store sees does.

        Replicas whose folders are not one and the same would each have a part of the books; those that do not have
        the store's own archive nothing, and say so when asked for what is archived.

        Raises:
            redis.exceptions.RedisError: the store does not answer.
        """
        if self._archive is None:
            return
        try:
            name = await asyncio.to_thread(self._archive.name)
        except OSError as error:
            self._detach(f"it cannot be used: {error.strerror}")
            return
        if not await self._store.execute_command("GET", _ARCHIVE):  # a full store says no to SET even where it has it
            await self._store.execute_command("SET", _ARCHIVE, name, "NX")
        if await self._store.execute_command("GET", _ARCHIVE) == name.encode():
            self._archive.attached = True
        else:
            self._detach("the store's archive is another folder, which all gateways must share")

    async def round(self, tenant: str) -> None:
        """Archives what is due of a tenant's journal.

        Raises:
            StoreDown, redis.exceptions.RedisError, OSError, Unverified, Missing: the rest is done next time.
        """
        await self._watch(tenant)
        if self._archive is None or not self._archive.attached:
            return
        seconds, _ = await self._store.execute_command("TIME")
        closed = (int(seconds) - SETTLED_S) * 1000 // _HOUR_MS * _HOUR_MS
        if not await self._next(tenant, closed, most=1) or not await self._lease(tenant):
            return
        await asyncio.to_thread(self._archive.tidy, tenant)
        while records := await self._next(tenant, closed):
            if not await self._move(self._archive, tenant, records):
                return

    async def _watch(self, tenant: str) -> None:
        length = self.records[tenant] = int(await self._store.execute_command("XLEN", tag(tenant) + "out"))
        if length <= MOST_RECORDS:
            self._long.discard(tenant)
        elif tenant not in self._long:
            self._long.add(tenant)
            log.error("journal_long", tenant=tenant, records=length, archived=self._archive is not None)
            self._alert(Alert(tenant, "journal", "out", length * 100 // MOST_RECORDS))

    async def _lease(self, tenant: str, *moved: str) -> bool:
        """Becomes the archiver, or stays it and removes what was moved; False where another one is."""
        return _decode(await self._script.run(self._store, tag(tenant), self._owner, _LEASE_MS, *moved))

    async def _next(self, tenant: str, closed: int, most: int | None = None) -> list[Record]:
        """The oldest records of the journal, as many as make up a file; the same ones until they are removed."""
        found: list[Record] = []
        size = 0
        async for id, text in self._records(tenant, BEGINNING, (closed - 1, 1 << 63), count=most or _PAGE):
            if found and (id[0] // _HOUR_MS != found[0][0][0] // _HOUR_MS or size >= FILE_BYTES):
                break
            found.append((id, text))
            size += len(text)
            if most == len(found):
                break
        return found

    async def _move(self, archive: Archive, tenant: str, records: list[Record]) -> bool:
        """From the store to the disk: written aside, compared, named, and only then removed."""
        first, last = records[0][0], records[-1][0]
        noted = await self._store.execute_command("GET", tag(tenant) + "archived")
        before = await asyncio.to_thread(archive.before, tenant, first)
        if noted and id_of(noted) < first:
            before = max(before, id_of(noted))
        aside = await asyncio.to_thread(archive.write_aside, tenant, before, records)
        again = [record async for record in self._records(tenant, first, last)]
        try:
            await asyncio.to_thread(_compare, archive, ArchiveFile(first, last, aside), again)
        except BaseException:
            await asyncio.to_thread(archive.drop, aside)
            raise
        path = await asyncio.to_thread(archive.keep, tenant, aside)
        removed = await self._lease(tenant, id_text(last), id_text(after(last)))
        log.info("journal_archived", tenant=tenant, file=str(path), records=len(records), removed=removed)
        return removed

    async def _records(self, tenant: str, from_id: Id, to_id: Id, count: int = _PAGE) -> AsyncIterator[Record]:
        at = from_id
        while True:
            page: list[Any] = await self._store.execute_command(
                "XRANGE", tag(tenant) + "out", id_text(at), id_text(to_id), "COUNT", count
            )
            for name, fields in page:
                yield id_of(name), fields[b"e"]
            if len(page) < count:
                return
            at = after(id_of(page[-1][0]))

    def _detach(self, why: str) -> None:
        assert self._archive is not None
        self._archive.attached = False
        if not self._said:
            self._said = True
            log.error("archive_not_in_use", folder=str(self._archive.folder), why=why)


def _compare(archive: Archive, file: ArchiveFile, records: list[Record]) -> None:
    """Reads a file back and compares it with the store's records: how many, every byte, and what some of them mean.

    Raises:
        Unverified: they differ.
        Missing: it cannot be read.
    """
    header, written = archive.one_by_one(file)
    number = 0
    for id, record in records:
        for text in lines_of(record):
            line = next(written, b"")
            if line != archived(id, text) + b"\n":
                raise Unverified(f"{file.path.name}: line {number} is another one than in the store")
            if number % _EACH == 0 and parse_archived(line) != (id, parse(text)):
                raise Unverified(f"{file.path.name}: line {number} means something else than in the store")
            number += 1
    if (header.records, header.lines) != (len(records), number) or next(written, None) is not None:
        raise Unverified(f"{file.path.name}: it holds or announces more or fewer than the {number} lines in the store")
