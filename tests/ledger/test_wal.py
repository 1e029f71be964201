"""The write-ahead log: what survives, what is cut, what happens when there is no room."""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from books import NO_SLABS, PRICE, attempt, audit, budget, flushed, journal, open_ledger, settle, until
from clocks import SetClock
from redis.asyncio import Redis

from gateway.errors import GatewayUnavailable, Kind
from gateway.ledger.attempt import Attempt, Receipt
from gateway.ledger.history import read_log
from gateway.ledger.limits import Limits
from gateway.ledger.records import NO_USAGE, encode
from gateway.ledger.wal import ENDING_ROOM, Record, Wal, lock_directory, read_segment
from gateway.settings import Settings
from gateway.types import Price

ENDING = encode(("P", 7, NO_USAGE, "provider", "complete", 1, None, None, 200, False))


@pytest.fixture
async def wal(tmp_path: Path, monotonic: SetClock) -> Wal:
    return Wal(tmp_path / "wal" / "o1", monotonic=monotonic, segment_bytes=8192)


def begin(wal: Wal, a: Attempt | None = None, kind: Record = Record.BEGUN, price: Price | None = None) -> Receipt:
    """Opens an attempt, a new one if none is given."""
    a = a or attempt()
    return wal.begin(kind, a.seal(), a.account, price)


def fill(wal: Wal) -> list[tuple[int, int]]:
    """Begins attempts until the log says that it can take no more; gives their receipts."""
    begun: list[tuple[int, int]] = []
    while True:
        try:
            begun.append(begin(wal))
        except GatewayUnavailable:
            return begun


def mappings(directory: Path) -> int:
    return Path("/proc/self/maps").read_text().count(str(directory))


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """No room can be allocated. (A limit on this process's file sizes would cut short the test run's own log.)"""

    def refuse(fd: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "posix_fallocate", refuse)
        yield


@pytest.fixture
def no_room() -> Iterator[None]:
    """The disk is full throughout the test."""
    with full_disk():
        yield


async def test_a_log_tells_how_far_each_attempt_came(wal: Wal) -> None:
    """Begun, under way, ended, in the store; with the price each was begun at."""
    receipts = [begin(wal, price=PRICE) for _ in range(3)]
    begin(wal, kind=Record.INTENT, price=PRICE)
    wal.note(Record.PROGRESS, receipts[0][0], b"17")
    for sequence, _ in receipts[1:]:
        wal.end(sequence, ENDING)
    wal.settled([receipts[2]])
    await wal.close()
    running, ended, settled, wanted = sorted(read_log(wal.directory), key=lambda s: s.sequence)
    assert (running.sent, running.output_tokens, running.ending) == (True, 17, None)
    assert (ended.ending_text, ended.settled) == (ENDING, False)
    assert settled.settled
    assert (wanted.sent, wanted.price) == (False, PRICE)


async def test_an_account_is_written_once_in_each_segment_and_told_with_every_attempt(wal: Wal) -> None:
    """Whoever reads an envelope back finds all that was sealed, also where accounts and prices take turns."""
    ones = [attempt(tags=(("app", name),), price=price) for name in "abcab" for price in (PRICE, None)] * 6
    for a in ones:
        sequence, _ = begin(wal, a, price=a.price)
        wal.end(sequence, ENDING)
    await wal.close()
    stories = sorted(read_log(wal.directory), key=lambda s: s.sequence)
    assert [(s.sealed, s.price) for s in stories] == [(a.envelope, a.price) for a in ones]
    segments = [path.read_bytes() for path in sorted(wal.directory.glob("*.log"))]
    assert len(segments) > 1
    for segment in segments:
        named = [payload for kind, _, payload in read_segment(segment) if kind is Record.NAMED]
        assert 0 < len(named) == len(set(named)) <= 7


async def test_a_log_that_could_not_go_on_names_its_accounts_anew(wal: Wal) -> None:
    """What was to stand in the next segment may stand in this one again."""
    one, other = attempt(team="one"), attempt(team="other")
    begun = []
    with full_disk():
        with contextlib.suppress(GatewayUnavailable):
            while True:
                begun.append((begin(wal, one), one))
        for (sequence, _), _ in begun:
            wal.end(sequence, ENDING)
    begun += [(begin(wal, a), a) for a in (other, one, other)]
    stories = {s.sequence: s.sealed for s in read_log(wal.directory)}
    assert stories == {sequence: a.envelope for (sequence, _), a in begun}
    await wal.close()


async def test_a_log_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """Its attempts have their envelopes whole."""
    a = attempt()
    a.seal()
    payload, head = a.envelope, struct.Struct("<IIBI")
    record = head.pack(len(payload), zlib.crc32(payload, 1 << 3 | Record.BEGUN), Record.BEGUN, 1) + payload
    (tmp_path / "00000001.log").write_bytes(record.ljust(4096, b"\0"))
    (story,) = read_log(tmp_path)
    assert (story.sealed, story.envelope.account, story.sent) == (payload, a.account, True)


async def test_a_log_cut_at_any_byte_of_its_last_record_loses_that_record_only(wal: Wal) -> None:
    """Every earlier record is read, whatever is left of the last."""
    for _ in range(3):
        sequence, _ = begin(wal)
    at = wal._at
    wal.end(sequence, ENDING)
    whole = (wal.directory / "00000001.log").read_bytes()[: wal._at]
    assert len(list(read_segment(whole))) == 5
    for length in range(at, len(whole)):
        kinds = [kind for kind, _, _ in read_segment(whole[:length])]
        assert kinds == [Record.NAMED, *[Record.BEGUN] * 3]
        assert [kind for kind, _, _ in read_segment(whole[:length].ljust(8192, b"\0"))] == kinds
    await wal.close()


async def test_a_flipped_bit_ends_the_log_where_it_is(wal: Wal) -> None:
    """No damaged record is believed: not its length, kind, sequence or content."""
    for _ in range(2):
        sequence, _ = begin(wal)
    at = wal._at
    wal.end(sequence, ENDING)
    whole = (wal.directory / "00000001.log").read_bytes()[: wal._at]
    for place in range(at, len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            assert len(list(read_segment(bytes(damaged)))) == 3
    await wal.close()


async def test_without_room_new_attempts_are_refused_and_old_ones_end(wal: Wal, no_room: None) -> None:
    """Room for every ending was kept when its attempt began."""
    begun = fill(wal)
    with pytest.raises(GatewayUnavailable) as refused:
        begin(wal)
    assert refused.value.kind is Kind.LEDGER_DOWN
    for sequence, _ in begun:
        wal.end(sequence, ENDING)
    assert len(begun) >= 3
    assert sum(s.ending is not None for s in read_log(wal.directory)) == len(begun)
    await wal.close()


async def test_with_room_again_attempts_are_taken_again(wal: Wal) -> None:
    """Nothing has to be restarted."""
    with full_disk():
        begun = fill(wal)
    for sequence, _ in begun:
        wal.end(sequence, ENDING)
    begin(wal)
    await wal.close()


async def test_a_full_disk_refuses_the_new_and_books_those_under_way(store: Redis, tmp_path: Path) -> None:
    """D21: 503 `ledger_unavailable` for who would begin; all that began ends in the books; with room all is well."""
    limits = budget(10**12)
    async with open_ledger(store, tmp_path, segment_bytes=65_536, slab_rate=NO_SLABS) as ledger:
        running = []
        with full_disk():
            with pytest.raises(GatewayUnavailable) as refused:  # noqa: PT012  # until one is refused
                while True:
                    await ledger.reserve(a := attempt(), limits)
                    running.append(a)
            assert (refused.value.status, refused.value.code) == (503, "ledger_unavailable")
            assert len(running) > 20
            for a in running:
                settle(ledger, a)
            await flushed(ledger)
            assert len(await journal(store)) == len(running)
        await ledger.reserve(a := attempt(), limits)
        settle(ledger, a)
        await flushed(ledger)
    assert len(await audit(store)) == len(running) + 1


async def test_too_many_attempts_under_way_are_refused(wal: Wal) -> None:
    """Even a fresh segment could not keep room for all their endings."""
    assert len(fill(wal)) >= 3
    await wal.close()


async def test_segments_are_kept_until_settled_and_old(wal: Wal, monotonic: SetClock) -> None:
    """The oldest first; fifteen minutes are kept for a store that loses writes."""
    first = begin(wal)
    while wal._number < 3:
        receipt = begin(wal)
        wal.end(receipt[0], ENDING)
        wal.settled([receipt])
    monotonic.advance(1000)
    wal.prune()
    assert len(list(wal.directory.glob("*.log"))) == 3
    wal.end(first[0], ENDING)
    wal.settled([first])
    wal.prune()
    assert len(list(wal.directory.glob("*.log"))) == 3
    monotonic.advance(901)
    wal.prune()
    assert [p.name for p in wal.directory.glob("*.log")] == ["00000003.log"]
    await wal.close()


async def test_only_the_segment_being_written_is_mapped(wal: Wal) -> None:
    """The others cost disk, not memory."""
    for _ in range(150):
        receipt = begin(wal)
        wal.end(receipt[0], ENDING)
        wal.settled([receipt])
    assert wal._number > 3
    assert mappings(wal.directory) == 1
    await wal.close()


async def test_a_log_is_locked_while_its_process_lives(wal: Wal) -> None:
    """Nobody recovers the log of the living; a log without open attempts is deleted by its own."""
    with pytest.raises(BlockingIOError):
        lock_directory(wal.directory)
    await wal.close()
    assert not wal.directory.exists()


async def test_a_closed_log_takes_nothing(wal: Wal) -> None:
    """Requests that come too late are refused, not lost."""
    await wal.close()
    with pytest.raises(GatewayUnavailable):
        begin(wal)


async def test_what_is_written_is_flushed_to_the_disk_soon(wal: Wal) -> None:
    """Twenty milliseconds after the first write the flush is under way, once for everything written until then."""
    begin(wal)
    assert wal._dirty
    await until(lambda: not wal._dirty)
    assert wal.broken is None
    await wal.close()


# ------------------------------------------------------------------------------------------------- flushed at once


class Disk:
    """Stands in for `fdatasync` and keeps what a log would hold after a power failure."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.flushes = 0
        self.fails = False
        self._real = os.fdatasync
        patch.setattr(os, "fdatasync", self._flush)

    def _flush(self, fd: int) -> None:
        if self.fails:
            raise OSError(errno.EIO, "Input/output error")
        self._real(fd)
        self.kept = Path(f"/proc/self/fd/{fd}").read_bytes()
        self.flushes += 1

    def kinds(self) -> list[Record]:
        return [kind for kind, _, _ in read_segment(self.kept) if kind is not Record.NAMED]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


async def test_always_means_before_it_is_sent(store: Redis, tmp_path: Path, disk: Disk) -> None:
    """What a request is about to do is on the disk when it may do it, and its ending before the caller has it all."""
    async with open_ledger(store, tmp_path, wal_fsync="always") as ledger:
        ledger.begin(a := attempt())
        assert disk.kinds() == [Record.BEGUN]
        settle(ledger, a)
        assert disk.kinds() == [Record.BEGUN, Record.ENDING]
        await ledger.reserve(b := attempt(), budget(10**9))
        assert Record.INTENT in disk.kinds()
        assert disk.kinds()[-1] == Record.SENT
        ledger.void(b)
        assert disk.kinds()[-1] == Record.ENDING
        await flushed(ledger)
        await audit(store)


async def test_a_segment_that_could_not_be_kept_is_made_again(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file does not stand in the way of the next try."""
    wal = Wal(tmp_path / "wal", monotonic=time.monotonic, segment_bytes=8 * ENDING_ROOM, fsync="always")

    def no_room(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    account = attempt().account
    first = wal.begin(Record.BEGUN, b"x" * 5 * ENDING_ROOM, account, None)
    with monkeypatch.context() as patch:
        patch.setattr("gateway.ledger.wal.flush_folder", no_room)
        with pytest.raises(GatewayUnavailable, match="no room"):
            wal.begin(Record.BEGUN, b"x" * 2 * ENDING_ROOM, account, None)
    second = wal.begin(Record.BEGUN, b"x" * 2 * ENDING_ROOM, account, None)
    assert (first[1], second[1]) == (1, 2)
    await wal.close()


async def test_in_groups_nobody_waits_for_the_disk(store: Redis, tmp_path: Path, disk: Disk) -> None:
    """A thread flushes many records together, some milliseconds later."""
    async with open_ledger(store, tmp_path) as ledger:
        for _ in range(20):
            ledger.begin(a := attempt())
            settle(ledger, a)
        assert disk.flushes == 0
        await until(lambda: disk.flushes > 0)
        assert disk.kinds().count(Record.ENDING) == 20
        assert disk.flushes < 5
        await flushed(ledger)


async def test_what_the_disk_does_not_take_is_not_sent(store: Redis, tmp_path: Path, disk: Disk) -> None:
    """It is refused, holds nothing and is no entry; those under way end."""
    limits = budget(10**9)
    async with open_ledger(store, tmp_path, wal_fsync="always") as ledger:
        await ledger.reserve(running := attempt(), limits)
        disk.fails = True
        settle(ledger, running)
        disk.fails = False
        with pytest.raises(GatewayUnavailable, match="cannot be flushed"):
            ledger.begin(attempt())
        assert not ledger.lag["log_up"]
        await flushed(ledger)
        assert len(await audit(store)) == 1


@pytest.mark.parametrize("limited", [False, True])
async def test_a_disk_that_fails_at_the_last_moment(store: Redis, tmp_path: Path, disk: Disk, limited: bool) -> None:
    """Between the hold and the sending: the hold is freed again."""
    limits = budget(10**9)
    async with open_ledger(store, tmp_path, wal_fsync="always") as ledger:
        a = attempt()
        disk.fails = True
        with pytest.raises(GatewayUnavailable, match="cannot be flushed"):
            await ledger.reserve(a, limits if limited else Limits("main"))
        disk.fails = False
        assert a.state == "ended"
        await flushed(ledger)
        assert await audit(store) == []
        assert await ledger.spent("main", limits.budgets[0]) == (0, 0)


def test_it_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """`TIERGATE_WAL_FSYNC`, by which create_app() opens the ledger."""
    assert Settings().wal_fsync == "group"
    monkeypatch.setenv("TIERGATE_WAL_FSYNC", "always")
    assert Settings().wal_fsync == "always"
