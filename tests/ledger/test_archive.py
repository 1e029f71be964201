"""The journal moves to files and stays one journal: whoever dies, whoever reads, and whatever is missing."""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from books import COST, PRICE, attempt, audit, budget, flushed, journal, open_ledger, settle, until_async
from redis.asyncio import Redis
from stores import StoreServer

from gateway.ledger import archive as archives
from gateway.ledger import archiver as archivers
from gateway.ledger.archive import Archive, Missing
from gateway.ledger.archiver import Archiver, Unverified
from gateway.ledger.attempt import Attempt
from gateway.ledger.exchange import tag
from gateway.ledger.journal import Journal
from gateway.ledger.lines import BEGINNING, Id, id_of
from gateway.ledger.outbox import Alert
from gateway.ledger.reconcile import BillRow, import_bill
from gateway.ledger.rerate import rerate
from gateway.settings import Settings
from gateway.types import Price, Rates

CHILD = Path(__file__).parents[1] / "ledger_child.py"
ROOT = Path(__file__).parents[2]
OUT = tag("main") + "out"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hour under way counts as closed, and each record of the journal makes a file."""
    monkeypatch.setattr(archivers, "SETTLED_S", -7200)
    monkeypatch.setattr(archivers, "FILE_BYTES", 1)


@pytest.fixture
def place(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "archive")


async def archiver(store: Redis, place: Archive, owner: str = "o1", alerts: list[Alert] | None = None) -> Archiver:
    mover = Archiver(store, place, owner, alert=(alerts if alerts is not None else []).append)
    await mover.attach()
    return mover


async def book(store: Redis, folder: Path, count: int = 6) -> list[Attempt]:
    """So many attempts in as many records of the journal."""
    made = []
    async with open_ledger(store, folder) as ledger:
        for _ in range(count):
            made.append(a := attempt())
            await ledger.reserve(a, budget(10**12))
            settle(ledger, a)
            await flushed(ledger)
    return made


async def forget_markers(store: Redis) -> None:
    for name in await store.keys(tag("main") + "d:*"):
        await store.delete(name)


def files(place: Archive) -> list[Path]:
    return sorted(place.folder.glob("tenant=main/dt=*/hour=*/*.jsonl.gz"))


async def test_the_archived_journal_is_the_journal(store: Redis, tmp_path: Path, place: Archive) -> None:
    """Nothing is left in the store, and every way of asking gives what it gave before."""
    made = await book(store, tmp_path)
    before = await audit(store)
    await (await archiver(store, place)).round("main")
    assert await store.xlen(OUT) == 0
    assert len(files(place)) == 6
    assert await audit(store, archive=place) == before
    reader = Journal(store, place)
    for forgotten in (False, True):
        if forgotten:
            await forget_markers(store)
        for a in made:
            (entry,) = await reader.entries_of("main", a.request_id)
            assert (entry["attempt_id"], entry["cost_nano_usd"]) == (a.aid, COST)
        wanted = [a.aid for a in made[1:4]]
        assert [line.envelope.aid for line in await reader.lines_of("main", wanted)] == wanted
    await book(store, tmp_path, 2)
    assert len(await audit(store, archive=place)) == 8
    later = reader.entries("main", made[2].at, time.time() + 1)
    assert [e["attempt_id"] async for e in later][:2] == [made[2].aid, made[3].aid]


@pytest.mark.parametrize("archived", [False, True])
async def test_requests_are_served_while_the_journal_is_read(
    store: Redis, tmp_path: Path, place: Archive, archived: bool
) -> None:
    """Whoever reads thousands of lines lets the rest of the process have its turn again and again."""
    await book(store, tmp_path, 1)
    ((_, record),) = await store.xrange(OUT)
    await store.xadd(OUT, {"e": b"\n".join([record[b"e"]] * 3_000)})
    if archived:
        await (await archiver(store, place)).round("main")
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    lines: Counter[int] = Counter()
    async for _ in Journal(store, place).lines("main", 0, time.time() + 1):
        lines[turns] += 1
    task.cancel()
    assert lines.total() == 3_001
    assert max(lines.values()) <= 512


async def test_what_is_archived_can_be_corrected(store: Redis, tmp_path: Path, place: Archive) -> None:
    """By a bill and by new prices; the corrections are archived in their turn, and doing it again finds nothing."""
    a, b = await book(store, tmp_path, 2)
    mover = await archiver(store, place)
    await mover.round("main")
    reader = Journal(store, place)
    row = BillRow(attempt_id=a.aid, cost_nano=COST + 7)
    assert (await import_bill(reader, "main", [row], "november", run="r1")).corrected == 1
    double = Price("p2", 0.0, Rates(input=2_000_000, output=10_000_000))

    async def run(name: str) -> int:
        now = time.time()
        period = (now - 60, now + 60)
        done = await rerate(reader, "main", *period, lambda name, at: double, model=None, now=now, run=name, book=True)
        return done.corrected

    assert await run("r2") == 1
    await mover.round("main")
    assert await store.xlen(OUT) == 0
    await forget_markers(store)
    assert (await import_bill(reader, "main", [row], "november", run="r3")).exact == 1
    assert await run("r4") == 0
    assert [e["cost_nano_usd"] for e in await reader.entries_of("main", a.request_id)] == [COST, 7]
    assert [e["cost_nano_usd"] for e in await reader.entries_of("main", b.request_id)] == [COST, COST]
    assert len(await audit(store, archive=place)) == 4
    assert PRICE.price_id == "p1"


async def test_a_file_tells_what_it_is(store: Redis, tmp_path: Path, place: Archive) -> None:
    """Its place and name by its ids; JSON lines, readable with nothing but gunzip; its owner's alone."""
    (a,) = await book(store, tmp_path, 1)
    ((name, _),) = await store.xrange(OUT)
    await (await archiver(store, place)).round("main")
    (path,) = files(place)
    at = time.gmtime(id_of(name)[0] // 1000)
    assert path.name == f"{name.decode()}-{name.decode()}.jsonl.gz"
    assert [part.name for part in list(path.parents)[:2]] == [time.strftime(f, at) for f in ("hour=%H", "dt=%Y-%m-%d")]
    header, line = map(json.loads, gzip.decompress(path.read_bytes()).decode().splitlines())
    assert (header["tiergate_journal"], header["records"], header["lines"]) == (1, 1, 1)
    assert dict(zip(header["envelope"], line[3][0], strict=True))["aid"] == a.aid
    assert dict(zip(header["ending"], line[3][1], strict=False))["cost_nano"] == COST
    assert path.stat().st_mode & 0o777 == 0o600
    assert list((place.folder / "tenant=main" / "aside").iterdir()) == []


async def test_only_closed_hours_are_archived(
    store: Redis, tmp_path: Path, place: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hour under way stays, and so does one that ended a moment ago; a file never crosses an hour."""
    monkeypatch.setattr(archivers, "SETTLED_S", 900)
    monkeypatch.setattr(archivers, "FILE_BYTES", 10**6)
    await book(store, tmp_path, 3)
    (_, first), (_, second), (_, third) = await store.xrange(OUT)
    now = int(time.time())
    hour = (now - 900) // 3600 * 3600
    await store.delete(OUT)
    for at, fields in ((hour - 3_601, first), (hour - 1, second), (hour, third)):
        await store.xadd(OUT, fields, id=f"{at * 1000}-0")
    await (await archiver(store, place)).round("main")
    assert [path.name.split("-")[0] for path in files(place)] == [f"{at * 1000}" for at in (hour - 3_601, hour - 1)]
    assert await store.xlen(OUT) == 1
    assert len(await journal(store, archive=place)) == 3


@pytest.mark.parametrize(
    ("point", "named", "removed"), [("written", 1, 1), ("compared", 1, 1), ("named", 2, 1), ("removed", 2, 2)]
)
async def test_an_archiver_killed_at_any_step_loses_and_doubles_nothing(
    store: Redis, session_store: StoreServer, tmp_path: Path, place: Archive, point: str, named: int, removed: int
) -> None:
    """What it had not removed is still in the store, what it had is in the archive, and the next one goes on."""
    await book(store, tmp_path)
    before = await audit(store)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, CHILD, f"archive:{point}", session_store.socket, tmp_path),
        env={"PYTHONPATH": f"{ROOT}:{CHILD.parent}"},
    )
    assert await process.wait() == -signal.SIGKILL
    assert (len(files(place)), await store.xlen(OUT)) == (named, 6 - removed)
    next_one = await archiver(store, place)
    assert await audit(store, archive=place) == before
    await next_one.round("main")
    assert await store.xlen(OUT) == 6 - removed, "the dead one's turn lasts two minutes"
    await store.delete(tag("main") + "archiving")
    await next_one.round("main")
    assert (len(files(place)), await store.xlen(OUT)) == (6, 0)
    assert await audit(store, archive=place) == before


async def test_whoever_reads_meanwhile_reads_all(store: Redis, tmp_path: Path, place: Archive) -> None:
    """A reader that began in the store goes on in the archive, without a gap and without a double."""
    await book(store, tmp_path, 12)
    before = await journal(store)
    mover = await archiver(store, place)
    done = False

    async def read() -> int:
        times = 0
        while not done:
            assert await journal(store, archive=place) == before
            times += 1
        return times

    reading = [asyncio.create_task(read()) for _ in range(3)]
    pages = Journal(store, place).entries("main", time.time() - 3600, time.time() + 3600)
    slow = [await anext(pages)]
    await mover.round("main")
    slow += [entry async for entry in pages]
    assert slow == before
    await asyncio.sleep(0.05)
    done = True
    assert sum([await task for task in reading]) >= 3


async def test_what_the_disk_does_not_give_back_is_not_removed(
    store: Redis, tmp_path: Path, place: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that reads otherwise than the store is dropped; so is one that a full disk cut."""
    await book(store, tmp_path, 2)
    mover = await archiver(store, place)
    real = archives.archived

    def wrong(id: Id, text: bytes) -> bytes:
        return real(id, text.replace(b"acme", b"acne"))

    monkeypatch.setattr(archives, "archived", wrong)
    with pytest.raises(Unverified, match="line 0 is another one"):
        await mover.round("main")
    monkeypatch.setattr(archivers, "archived", wrong)
    with pytest.raises(Unverified, match="means something else"):
        await mover.round("main")
    monkeypatch.setattr(archives, "archived", real)
    monkeypatch.setattr(archivers, "archived", real)
    write_aside = Archive.write_aside
    for spoil, problem in (
        (lambda content: content[:-20], "cannot be read"),
        (lambda content: content + gzip.compress(b"one more\n"), "more or fewer"),
        (lambda content: gzip.compress(gzip.decompress(content).splitlines(keepends=True)[0]), "not whole"),
        (
            lambda content: gzip.compress(gzip.decompress(content).replace(b'"records":', b'"records":1', 1)),
            "announces",
        ),
        (lambda content: gzip.compress(b""), "cannot be read"),
    ):

        def spoilt(*given: Any, spoil: Callable[[bytes], bytes] = spoil) -> Path:
            path = write_aside(*given)
            path.write_bytes(spoil(path.read_bytes()))
            return path

        monkeypatch.setattr(Archive, "write_aside", spoilt)
        with pytest.raises((Missing, Unverified), match=problem):
            await mover.round("main")
    assert (await store.xlen(OUT), files(place)) == (2, [])
    assert list((place.folder / "tenant=main" / "aside").iterdir()) == []
    monkeypatch.setattr(Archive, "write_aside", write_aside)
    await mover.round("main")
    assert await store.xlen(OUT) == 0


async def test_files_that_overlap_are_read_once(store: Redis, tmp_path: Path, place: Archive) -> None:
    """An archiver that had lost its turn may have written the same records into another file."""
    await book(store, tmp_path, 4)
    before = await journal(store)
    records = [(id_of(name), fields[b"e"]) for name, fields in await store.xrange(OUT)]
    await (await archiver(store, place)).round("main")
    place.keep("main", place.write_aside("main", BEGINNING, records[:3]))
    assert len(files(place)) == 5
    assert await journal(store, archive=place) == before


async def test_one_archiver_at_a_time(store: Redis, tmp_path: Path, place: Archive) -> None:
    """The second waits for the first's turn to end; one that lost its turn removes nothing."""
    await book(store, tmp_path, 3)
    first, second = await archiver(store, place, "o1"), await archiver(store, place, "o2")
    assert await first._lease("main")
    await second.round("main")
    assert (files(place), await store.xlen(OUT)) == ([], 3)
    await store.set(tag("main") + "archiving", "o2")
    records = await first._next("main", 1 << 62)
    assert not await first._move(place, "main", records)
    assert (len(files(place)), await store.xlen(OUT)) == (1, 3)
    await second.round("main")
    assert (len(files(place)), await store.xlen(OUT)) == (3, 0)
    assert len(await audit(store, archive=place)) == 3


async def test_replicas_whose_folders_are_not_one_do_not_archive(store: Redis, tmp_path: Path, place: Archive) -> None:
    """The first folder is the store's; a replica with another one says so, and never answers with a part."""
    await book(store, tmp_path, 2)
    other = Archive(tmp_path / "other")
    mover, stranger = await archiver(store, place), await archiver(store, other)
    assert (place.attached, other.attached) == (True, False)
    await stranger.round("main")
    assert await store.xlen(OUT) == 2
    await mover.round("main")
    for blind in (Journal(store), Journal(store, other)):
        with pytest.raises(Missing, match="TIERGATE_ARCHIVE_DIR"):
            await anext(blind.entries("main", time.time() - 60, time.time() + 60))
    (a,) = await book(store, tmp_path, 1)
    assert len(await Journal(store).entries_of("main", a.request_id)) == 1
    shared = Archive(place.folder)
    await archiver(store, shared)
    assert len(await audit(store, archive=shared)) == 3


async def test_single_lines_are_found_among_many(store: Redis, tmp_path: Path, place: Archive) -> None:
    """Each once and in order, also where one's id begins another's or several are in one file."""
    made = await book(store, tmp_path, 12)
    entries = [fields[b"e"] for _, fields in await store.xrange(OUT)]
    records = [((1_795_219_200_000, number), text) for number, text in enumerate(entries)]
    place.keep("main", place.write_aside("main", BEGINNING, records))
    ids = [id for id, _ in records]
    found = place.at("main", [ids[11], ids[1], ids[0], (5, 5)])
    assert {id: [line.envelope.aid for line in lines] for id, lines in found.items()} == {
        ids[n]: [made[n].aid] for n in (0, 1, 11)
    }
    wanted = [made[n].aid.encode() for n in (7, 3)]
    (lines,) = place.through("main", ids[0], ids[11], [*wanted, wanted[0][:20]])
    assert [line.envelope.aid for line in lines if line.envelope.aid.encode() in wanted] == [made[3].aid, made[7].aid]


async def test_a_long_file_is_read_some_lines_at_a_time(store: Redis, tmp_path: Path, place: Archive) -> None:
    """Requests wait for no more than that; a file that turns out to be cut still says so."""
    await book(store, tmp_path, 1)
    ((_, fields),) = await store.xrange(OUT)
    records = [((1_795_219_200_000, number), fields[b"e"]) for number in range(1_200)]
    path = place.keep("main", place.write_aside("main", BEGINNING, records))
    first, last = records[10][0], records[-1][0]
    assert [len(lines) for lines in place.through("main", first, last)] == [490, 500, 200]
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    path.write_bytes(gzip.compress(b"".join(lines[:-1])))
    pages = place.through("main", first, last)
    assert [len(next(pages)), len(next(pages))] == [490, 500]
    with pytest.raises(Missing, match="not whole"):
        list(pages)


async def test_what_is_missing_is_said(store: Redis, tmp_path: Path, place: Archive) -> None:
    """Never a list with a part missing: at the end, in the middle, at the beginning, or a file that is broken."""
    made = await book(store, tmp_path, 4)
    await (await archiver(store, place)).round("main")
    kept = {path: path.read_bytes() for path in files(place)}
    for number, path in enumerate(kept):
        path.unlink()
        with pytest.raises(Missing, match="in the archive"):
            await journal(store, archive=place)
        with pytest.raises(Missing):
            await Journal(store, place).entries_of("main", made[number].request_id)
        path.write_bytes(kept[path][:-9])
        with pytest.raises(Missing, match="cannot be read"):
            await journal(store, archive=place)
        path.write_bytes(kept[path])
    assert len(await journal(store, archive=place)) == 4
    shutil.rmtree(place.folder / "tenant=main")
    with pytest.raises(Missing):
        await journal(store, archive=place)


async def test_the_archive_outlives_the_stores_memory(store: Redis, tmp_path: Path, place: Archive) -> None:
    """A store that came back empty finds its archive again, and what is booked then comes after it."""
    await book(store, tmp_path, 3)
    await (await archiver(store, place)).round("main")
    await store.flushall()
    mover = await archiver(store, place, "o2")
    assert len(await journal(store, archive=place)) == 3
    await book(store, tmp_path, 1)
    assert len(await journal(store, archive=place)) == 4
    await mover.round("main")
    assert len(files(place)) == 4
    assert len(await journal(store, archive=place)) == 4


async def test_a_long_journal_raises_an_alarm_once(
    store: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether anybody archives or not; again when it was short meanwhile."""
    monkeypatch.setattr(archivers, "MOST_RECORDS", 2)
    told: list[Alert] = []
    watcher = Archiver(store, None, "o1", alert=told.append)
    await book(store, tmp_path, 3)
    for _ in range(2):
        await watcher.round("main")
    assert (told, watcher.records) == ([Alert("main", "journal", "out", 150)], {"main": 3})
    await store.xtrim(OUT, maxlen=1, approximate=False)
    await watcher.round("main")
    await book(store, tmp_path, 3)
    await watcher.round("main")
    assert len(told) == 2


async def test_a_full_store_is_helped_by_archiving(own_store: StoreServer, tmp_path: Path, place: Archive) -> None:
    """It takes what removes, however full it is."""
    store = own_store.client()
    await book(store, tmp_path, 3)
    mover = await archiver(store, place)
    mover.allow_when_full()
    await store.config_set("maxmemory", "1")
    await mover.round("main")
    assert await store.xlen(OUT) == 0
    await store.aclose()


async def test_the_ledger_archives_by_itself(store: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the background, and its own journal reads on."""
    monkeypatch.setattr("gateway.ledger.upkeep._ARCHIVE_EVERY_S", 0.05)
    async with open_ledger(store, tmp_path, archive_dir=tmp_path / "archive") as ledger:
        ledger.begin(a := attempt())
        settle(ledger, a)
        await flushed(ledger)

        async def moved() -> bool:
            return await store.exists(tag("main") + "archived") == 1 and await store.xlen(OUT) == 0

        await until_async(moved)
        assert len(await ledger.journal.entries_of("main", a.request_id)) == 1
        assert ledger.lag["archive_in_use"]


@pytest.mark.parametrize(
    ("given", "folder"),
    [
        ({}, "data/archive"),
        ({"redis_url": "redis://store"}, None),
        ({"redis_url": "redis://store", "archive_dir": "/shared"}, "/shared"),
        ({"archive_dir": "/shared"}, "/shared"),
    ],
)
def test_only_the_embedded_store_is_archived_unasked(given: dict[str, Any], folder: str | None) -> None:
    """Where the store is one's own there may be other gateways, whose disks are not this one's."""
    assert Settings(**given).archive == (Path(folder) if folder else None)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the machine that tests run on."""
    for name in ("REDIS_URL", "TIERGATE_REDIS_URL", "TIERGATE_ARCHIVE_DIR", "TIERGATE_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
