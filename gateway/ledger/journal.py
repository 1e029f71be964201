"""The journal: every entry as it was booked, by period, by request or by attempt; in the store or in the archive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from itertools import islice
from typing import Any

from gateway.ledger.archive import Archive, Missing
from gateway.ledger.attempt import MAX_RETRY
from gateway.ledger.exchange import tag
from gateway.ledger.lines import BEGINNING, Id, Line, after, id_of, id_text, lines_of, parse
from gateway.ledger.records import aid_hour
from gateway.storage.client import Store

LATEST_S = 50 * 3600
"""How long after its start an attempt may still be booked; only corrections of people come later."""
_SKEW_S = 300
_PAGE = 200
_AT_ONCE = 256
"""Lines read in one turn of the loop, in some 0.5 ms."""
_FEW = 64
"""So many texts are looked for in the archive's lines before these are parsed."""


class Journal:
    """Reads. Every method may raise, besides what it names:

    redis.exceptions.RedisError: the store does not answer.
    Missing: part of what was asked for is archived where this process does not see it.
    """

    def __init__(self, store: Store, archive: Archive | None = None) -> None:
        self.store = store
        self._archive = archive

    async def lines(self, tenant: str, from_at: float, to_at: float) -> AsyncIterator[Line]:
        """Lines of attempts that started in `from_at` <= at < `to_at` (epoch seconds), corrections last."""
        until = _last_of(to_at + LATEST_S + _SKEW_S)
        async for line in self._scan(tenant, from_at, until):
            if from_at <= line.envelope.at < to_at:
                yield line
        late: set[Id] = set()
        for day in range(int(from_at - _SKEW_S) // 86_400, int(to_at + _SKEW_S) // 86_400 + 1):
            for ids in await self.store.execute_command("HVALS", f"{tag(tenant)}x:{day}"):
                late |= {id for id in _ids(ids) if id > until}
        for line in await self._lines_at(tenant, late):
            if from_at <= line.envelope.at < to_at:
                yield line

    async def entries(self, tenant: str, from_at: float, to_at: float) -> AsyncIterator[dict[str, Any]]:
        """The same as they are shown. A correction is an entry of its own (`kind: adjustment`)."""
        async for line in self.lines(tenant, from_at, to_at):
            yield line.as_dict()

    async def entries_of(self, tenant: str, request_id: str) -> list[dict[str, Any]]:
        """The entries of one request, corrections included; empty where there are none."""
        if len(request_id) != 36 or not request_id.startswith("req_"):
            return []
        try:
            aids = [f"{request_id[4:35]}{n:x}" for n in range(MAX_RETRY + 1)]
            aid_hour(aids[0])
        except ValueError:
            return []
        found = await self.lines_of(tenant, aids)
        return [line.as_dict() for line in found if line.envelope.request_id == request_id]

    async def lines_of(self, tenant: str, aids: Iterable[str]) -> list[Line]:
        """The lines of these attempts in the order they were booked.

        Where their markers are forgotten (after two days) the journal of that time is read through, once for all.
        """
        wanted = set(aids)
        ids, unmarked = await self._marked(tenant, wanted)
        marked = wanted - unmarked
        found = [line for line in await self._lines_at(tenant, ids) if line.envelope.aid in marked]
        if not unmarked:
            return found
        began = [int(aid[:12], 16) / 1000 for aid in unmarked]
        until = _last_of(max(began) + LATEST_S + _SKEW_S)
        requests = {aid[:-1].encode() for aid in unmarked}
        texts = list(requests) if len(requests) <= _FEW else None
        scanned = self._scan(tenant, min(began), until, texts)
        found += [line async for line in scanned if line.envelope.aid in unmarked]
        late = {id for id in await self._corrected(tenant, unmarked) if id > until}
        return found + [line for line in await self._lines_at(tenant, late) if line.envelope.aid in unmarked]

    async def _marked(self, tenant: str, aids: set[str]) -> tuple[set[Id], set[str]]:
        """Where the journal has these attempts by their markers, and those of hours without markers (any more)."""
        hours: dict[int, list[str]] = {}
        for aid in sorted(aids):
            hours.setdefault(aid_hour(aid), []).append(aid)
        ids: set[Id] = set()
        unmarked: set[str] = set()
        for hour, group in hours.items():
            markers = await self.store.execute_command("HMGET", f"{tag(tenant)}d:{hour}", *group)
            for marker in markers:
                ids |= _ids(marker.split(b":", 2)[2]) if marker else set()
            if not await self.store.execute_command("EXISTS", f"{tag(tenant)}d:{hour}"):
                unmarked |= set(group)
        return ids, unmarked

    async def _corrected(self, tenant: str, aids: set[str]) -> set[Id]:
        """Where the journal has corrections of these attempts."""
        days: dict[int, list[str]] = {}
        for aid in aids:
            days.setdefault(aid_hour(aid) // 24, []).append(aid)
        ids: set[Id] = set()
        for day, group in days.items():
            found = await self.store.execute_command("HMGET", f"{tag(tenant)}x:{day}", *group)
            ids |= {id for text in found if text for id in _ids(text)}
        return ids

    async def _lines_at(self, tenant: str, ids: set[Id]) -> list[Line]:
        """The lines of these records, in the order of the journal."""
        found: dict[Id, list[Line]] = {}
        rest = iter(sorted(ids))
        while page := list(islice(rest, _PAGE)):
            pipeline = self.store.pipeline(transaction=False)
            for id in page:
                pipeline.execute_command("XRANGE", tag(tenant) + "out", id_text(id), id_text(id))
            for records in await pipeline.execute():
                found |= {id_of(name): list(map(parse, lines_of(fields[b"e"]))) for name, fields in records}
        if gone := ids - found.keys():
            end = await self._archived(tenant)
            if archived := {id for id in gone if id <= end}:
                found |= await asyncio.to_thread(self._folder(archived).at, tenant, archived)
                if lost := archived - found.keys():
                    raise Missing(min(lost), max(lost), "are not there")
        return [line for id in sorted(found) for line in found[id]]

    async def _scan(
        self, tenant: str, from_at: float, until: Id, holding: Sequence[bytes] | None = None
    ) -> AsyncIterator[Line]:
        """The lines of a time of the journal; from the archive at least those that have one of the texts `holding`.

        What was archived is noted in the same step that removes it from the store. A page is therefore the store's
        whole answer where nothing of its range was archived by the time after it was read.
        """
        at: Id = (max(1, int((from_at - _SKEW_S) * 1000)), 0)  # clocks may differ by five minutes
        archived = await self._archived(tenant)
        while True:
            if archived >= at:
                end = min(archived, until)
                pages = self._folder([at, end]).through(tenant, at, end, holding)
                while (lines := await asyncio.to_thread(next, pages, None)) is not None:
                    async for line in _in_turns(lines):
                        yield line
                at = after(end)
            if at > until:
                return
            pipeline = self.store.pipeline(transaction=False)
            pipeline.execute_command("XRANGE", tag(tenant) + "out", id_text(at), id_text(until), "COUNT", _PAGE)
            pipeline.execute_command("GET", tag(tenant) + "archived")
            records, noted = await pipeline.execute()
            archived = id_of(noted) if noted else BEGINNING
            if archived >= at:
                continue
            async for line in _in_turns(parse(text) for _, fields in records for text in lines_of(fields[b"e"])):
                yield line
            if len(records) < _PAGE:
                return
            at = after(id_of(records[-1][0]))

    async def _archived(self, tenant: str) -> Id:
        """The id of the last record that is to be looked for in the archive.

        A store that came back without its memory does not know it; the archive does.
        """
        noted = await self.store.execute_command("GET", tag(tenant) + "archived")
        end = id_of(noted) if noted else BEGINNING
        if self._archive is not None and self._archive.attached:
            end = max(end, await asyncio.to_thread(self._archive.last, tenant))
        return end

    def _folder(self, ids: Iterable[Id]) -> Archive:
        if self._archive is None or not self._archive.attached:
            ids = list(ids)
            raise Missing(min(ids), max(ids), "this gateway has no access to it (TIERGATE_ARCHIVE_DIR)")
        return self._archive


async def _in_turns(lines: Iterable[Line]) -> AsyncIterator[Line]:
    """The same; in between, what else the process does has its turn."""
    for number, line in enumerate(lines, 1):
        yield line
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)


def _ids(text: bytes) -> set[Id]:
    """Ids with commas between them."""
    return {id_of(id) for id in text.split(b",") if id}


def _last_of(at: float) -> Id:
    """The last id that a record of this millisecond can have."""
    return int(at * 1000), (1 << 64) - 1
