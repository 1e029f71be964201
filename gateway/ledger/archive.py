"""The archive: closed hours of the journal as files, which every process of the gateway reads.

`<folder>/tenant=<tenant>/dt=2026-11-21/hour=05/<first id>-<last id>.jsonl.gz`, hours UTC by the ids. The first line of
a file tells what it holds, each other one is a line of the journal (see `lines.archived`). Each file begins where the
one before it ended, and says so (`after`), so that a missing one is noticed. Files are never changed; two may overlap
after a crash, and then have the same lines. What is done here takes its time: call it in a thread.
"""

from __future__ import annotations

import gzip
import os
import secrets
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, islice
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from gateway.errors import GatewayUnavailable, Kind
from gateway.ledger.lines import BEGINNING, Id, Line, archived, id_of, id_text, lines_of, parse_archived
from gateway.ledger.records import METRICS, Ending, Envelope
from gateway.ledger.wal import flush_folder

Record = tuple[Id, bytes]
"""A record of the journal as the store has it: its id, and its lines (see `lines.py`)."""

_SUFFIX = ".jsonl.gz"
_ASIDE = "aside"
_ASIDE_KEPT_S = 3600.0
_LEVEL = 3
"""A tenth larger than at 6, for half the time."""
_AT_ONCE = 500
"""Lines that are held at once: to drop those of a whole file stops every thread for tens of milliseconds."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of a file."""

    tiergate_journal: int = 1
    """The version of this form."""
    tenant: str
    after: str
    """The id of the last record before this file; `0-0` where there is none."""
    first: str
    last: str
    records: int
    lines: int
    envelope: tuple[str, ...] = Envelope.__struct_fields__
    """What the places of an entry's first half mean, of its second (`ending`), and of differences (`metrics`)."""
    ending: tuple[str, ...] = Ending.__struct_fields__
    metrics: tuple[str, ...] = METRICS


class ArchiveFile(NamedTuple):
    """A file by its name."""

    first: Id
    last: Id
    path: Path


class Missing(GatewayUnavailable):
    """The archive does not have, or not here, what it should."""

    def __init__(self, first: Id, last: Id, why: str) -> None:
        began, ended = (time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(id[0] / 1000)) for id in (first, last))
        super().__init__(
            Kind.LEDGER_DOWN,
            f"Entries booked from {began} to {ended} are in the archive, and {why}. What was booked later can be read.",
        )


_encode = msgspec.json.Encoder().encode
_decode_header = msgspec.json.Decoder(Header).decode
_UNREADABLE = (OSError, EOFError, zlib.error, msgspec.DecodeError, ValueError)


class Archive:
    """A folder of such files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.attached = False
        """Whether this is the folder that belongs to the store; until that is known, nothing is read from it."""

    def name(self) -> str:
        """What tells this folder from every other one; made at first use.

        Raises:
            OSError: the folder cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self.folder / "id"
        if not path.exists():
            aside = self.folder / f".id-{secrets.token_hex(8)}"
            with _new(aside) as file:
                file.write(secrets.token_hex(16).encode())
            with suppress(FileExistsError):
                os.link(aside, path)
            aside.unlink()
            flush_folder(self.folder)
            flush_folder(self.folder.parent)
        return path.read_text().strip()

    def write_aside(self, tenant: str, after: Id, records: Sequence[Record]) -> Path:
        """Writes these records to a file that nobody reads yet, and flushes it to the disk.

        Raises:
            OSError: there is no room, or the folder cannot be written.
        """
        folder = self._of(tenant) / _ASIDE
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        header = Header(
            tenant=tenant,
            after=id_text(after),
            first=id_text(records[0][0]),
            last=id_text(records[-1][0]),
            records=len(records),
            lines=sum(record.count(b"\n") + 1 for _, record in records),
        )
        path = folder / f"{header.first}-{header.last}-{secrets.token_hex(8)}"
        with _new(path) as file, gzip.GzipFile("", "wb", _LEVEL, file, mtime=0) as packed:
            packed.write(_encode(header) + b"\n")
            for id, record in records:  # one at a time: what a thread has used at its most, its process keeps
                packed.writelines([archived(id, text) + b"\n" for text in lines_of(record)])
        return path

    def keep(self, tenant: str, aside: Path) -> Path:
        """Gives a file written aside its name and place, so that it is read from now on; flushes the folders.

        Raises:
            OSError: it is gone, or the folder cannot be written.
        """
        first, last = aside.name.split("-")[:2], aside.name.split("-")[2:4]
        day, hour = self._hour(tenant, int(first[0]))
        (day / hour).mkdir(parents=True, exist_ok=True, mode=0o700)
        path = day / hour / ("-".join(first + last) + _SUFFIX)
        os.replace(aside, path)
        for folder in (day / hour, day, self._of(tenant), self.folder):
            flush_folder(folder)
        return path

    def drop(self, aside: Path) -> None:
        """Deletes a file written aside."""
        aside.unlink(missing_ok=True)

    def tidy(self, tenant: str) -> None:
        """Deletes what the dead left aside."""
        with suppress(FileNotFoundError):
            for path in (self._of(tenant) / _ASIDE).iterdir():
                if time.time() - path.stat().st_mtime > _ASIDE_KEPT_S:
                    path.unlink(missing_ok=True)

    def last(self, tenant: str) -> Id:
        """The id of the last record that is archived; `BEGINNING` where none is."""
        for day in sorted(_folders(self._of(tenant), "dt="), reverse=True):
            for hour in sorted(_folders(day, "hour="), reverse=True):
                if found := _files(hour):
                    return max(file.last for file in found)
        return BEGINNING

    def before(self, tenant: str, id: Id) -> Id:
        """The id of the last record that is archived and comes before this one; `BEGINNING` where none does."""
        for day in sorted(_folders(self._of(tenant), "dt="), reverse=True):
            for hour in sorted(_folders(day, "hour="), reverse=True):
                if found := [file.last for file in _files(hour) if file.last < id]:
                    return max(found)
        return BEGINNING

    def files(self, tenant: str, from_id: Id, to_id: Id) -> list[ArchiveFile]:
        """The files that hold records of this range, both ends included, in order."""
        first, last = self._hour(tenant, from_id[0]), self._hour(tenant, to_id[0])
        return sorted(
            file
            for day in _folders(self._of(tenant), "dt=")
            if first[0] <= day <= last[0]
            for hour in _folders(day, "hour=")
            if first <= (day, hour.name) <= last
            for file in _files(hour)
            if file.last >= from_id and file.first <= to_id
        )

    def at(self, tenant: str, ids: Iterable[Id]) -> dict[Id, list[Line]]:
        """The lines of single records, those that are there."""
        wanted = set(ids)
        found: dict[Id, list[Line]] = {}
        for moment in sorted({(id[0], 0) for id in wanted}):
            for file in self.files(tenant, moment, (moment[0], 1 << 64)):
                here = {id for id in wanted - found.keys() if file.first <= id <= file.last}
                if here:
                    _, pages = self.pages(file, {id_text(id).encode() for id in here})
                    for id, line in chain.from_iterable(pages):
                        if id in here:
                            found.setdefault(id, []).append(line)
        return found

    def pages(
        self, file: ArchiveFile, holding: Iterable[bytes] | None = None
    ) -> tuple[Header, Iterator[list[tuple[Id, Line]]]]:
        """A file's header, and its lines, some at a time: as many at once as requests can wait for.

        Where `holding` is given, only lines that have one of these texts.

        Raises:
            Missing: it is not as it was written; the pages may still raise it.
        """
        if holding is None:
            header, texts = self.one_by_one(file)
        else:
            header, content = self.content(file)
            texts = iter(_lines_with(content, holding))
        return header, _parsed(file, texts)

    def content(self, file: ArchiveFile) -> tuple[Header, bytes]:
        """A file unpacked: its first line understood, and all of it.

        Raises:
            Missing: it is not as it was written.
        """
        try:
            content = gzip.decompress(file.path.read_bytes())
            header = _decode_header(content[: content.index(b"\n")])
        except _UNREADABLE as error:
            raise _unreadable(file, error) from error
        if content.count(b"\n") != header.lines + 1 or not content.endswith(b"\n"):
            raise _not_whole(file)
        return header, content

    def one_by_one(self, file: ArchiveFile) -> tuple[Header, Iterator[bytes]]:
        """A file's first line understood, and each other one as it is on the disk, of which never all are held.

        Raises:
            Missing: it is not as it was written; the lines may still raise it.
        """
        lines = _lines(file)
        try:
            header = _decode_header(next(lines, b""))
        except msgspec.DecodeError as error:
            raise _unreadable(file, error) from error
        return header, _all(file, header, lines)

    def through(
        self, tenant: str, from_id: Id, to_id: Id, holding: Sequence[bytes] | None = None
    ) -> Iterator[list[Line]]:
        """The lines of the records in this range, both ends included, in order; some at a time.

        All records up to `to_id` must have been archived.

        Raises:
            Missing: part of it is not there.
        """
        files = self.files(tenant, from_id, to_id)
        reached = (from_id[0], from_id[1] - 1)
        for file in files:
            header, pages = self.pages(file, holding)
            if id_of(header.after) > reached:
                raise Missing(reached, id_of(header.after), f"{self.folder} does not hold it")
            for lines in pages:
                yield [line for id, line in lines if reached < id <= to_id]  # a file has all records of its range
            reached = max(reached, file.last)
        if reached < to_id:
            following = self._first_after(tenant, to_id)
            if following is None or id_of(self.one_by_one(following)[0].after) > reached:
                raise Missing(reached, to_id, f"{self.folder} does not hold it")

    def _first_after(self, tenant: str, id: Id) -> ArchiveFile | None:
        """The first file that begins after a record."""
        hour_of_id = self._hour(tenant, id[0])
        for day in sorted(_folders(self._of(tenant), "dt=")):
            for hour in sorted(_folders(day, "hour=")) if day >= hour_of_id[0] else ():
                if found := [file for file in _files(hour) if file.first > id]:
                    return min(found)
        return None

    def _of(self, tenant: str) -> Path:
        return self.folder / f"tenant={tenant}"

    def _hour(self, tenant: str, milliseconds: int) -> tuple[Path, str]:
        """The folders of a day and of an hour in it."""
        at = time.gmtime(milliseconds // 1000)
        return self._of(tenant) / time.strftime("dt=%Y-%m-%d", at), time.strftime("hour=%H", at)


def _unreadable(file: ArchiveFile, error: Exception) -> Missing:
    return Missing(file.first, file.last, f"{file.path} cannot be read ({type(error).__name__})")


def _not_whole(file: ArchiveFile) -> Missing:
    return Missing(file.first, file.last, f"{file.path} is not whole")


def _lines(file: ArchiveFile) -> Iterator[bytes]:
    try:
        with gzip.open(file.path) as content:
            yield from content
    except _UNREADABLE as error:
        raise _unreadable(file, error) from error


def _all(file: ArchiveFile, header: Header, lines: Iterator[bytes]) -> Iterator[bytes]:
    """These lines, if they are as many as the header says."""
    number = 0
    for line in lines:
        number += 1
        yield line
    if number != header.lines:
        raise _not_whole(file)


def _parsed(file: ArchiveFile, texts: Iterator[bytes]) -> Iterator[list[tuple[Id, Line]]]:
    try:
        while some := list(islice(texts, _AT_ONCE)):
            yield list(map(parse_archived, some))
    except _UNREADABLE as error:
        raise _unreadable(file, error) from error


def _lines_with(content: bytes, parts: Iterable[bytes]) -> list[bytes]:
    """The lines below the first that have one of these texts, in their order."""
    found: dict[int, int] = {}
    for part in parts:
        at = content.find(part, content.index(b"\n"))
        while at >= 0:
            end = content.index(b"\n", at)
            found[content.rindex(b"\n", 0, at) + 1] = end
            at = content.find(part, end)
    return [content[begin : found[begin]] for begin in sorted(found)]


def _folders(folder: Path, prefix: str) -> list[Path]:
    with suppress(FileNotFoundError):
        return [path for path in folder.iterdir() if path.name.startswith(prefix)]
    return []


def _files(folder: Path) -> list[ArchiveFile]:
    found = []
    with suppress(FileNotFoundError):
        for path in folder.iterdir():
            if path.name.endswith(_SUFFIX):
                parts = path.name.removesuffix(_SUFFIX).split("-")
                found.append(ArchiveFile(id_of("-".join(parts[:2])), id_of("-".join(parts[2:])), path))
    return found


@contextmanager
def _new(path: Path) -> Iterator[IO[bytes]]:
    """A file that did not exist, to be written; it is on the disk when this ends."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb", closefd=True) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
