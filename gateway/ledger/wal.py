"""The write-ahead log of one process: what was begun and how it ended, kept through the death of the process.

Records are copied into a memory-mapped, preallocated segment: no system call, and the pages belong to the kernel, so
they survive SIGKILL. A thread flushes them to the disk some milliseconds later, for the death of the machine; or they
are flushed at once, where that is asked for.

A record is length, CRC-32, kind, sequence, payload. The CRC is seeded with kind and sequence, so that a torn or
misplaced record is known; reading stops there. All records of one attempt carry its sequence. What many attempts have
in common, their account and price, is written once in each segment, before the first that names it.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import mmap
import os
import struct
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum
from pathlib import Path
from typing import Literal
from zlib import crc32

from gateway.ledger.account import Account
from gateway.ledger.attempt import Receipt
from gateway.ledger.records import encode_price
from gateway.ledger.refusal import unavailable
from gateway.types import Price

Fsync = Literal["group", "always"]
"""When records are flushed: some milliseconds later, many together, or before an attempt goes on."""

_HEADER = struct.Struct("<IIBI")
_HEADER_BYTES, _pack = _HEADER.size, _HEADER.pack
_SEQUENCES = 1 << 29
"""Sequences start anew here: with the kind's three bits they make up the seed of the CRC."""
ENDING_ROOM = 1024
"""Bytes kept free for each attempt under way: SENT and ENDING fit, however a provider's words must be escaped."""
_NUMBER_BYTES = 10
"""The number of an account is not longer."""
_LEAST_ROOM = 3 * _HEADER_BYTES + _NUMBER_BYTES + ENDING_ROOM
"""Bytes that must be free for an attempt beside its brief and what is said before it."""


class Record(IntEnum):
    """What a record says."""

    INTENT = 1
    """An attempt wants to hold its worst case; the payload is the number of its account, and its brief."""
    SENT = 2
    """It is about to be sent; the payload is the nano-USD held."""
    BEGUN = 3
    """INTENT and SENT in one, for attempts that hold nothing."""
    PROGRESS = 4
    """The payload is the output tokens so far."""
    ENDING = 5
    """How it ended."""
    SETTLED = 6
    """The store has these endings; the payload is their sequences, four bytes each."""
    NAMED = 7
    """What later attempts of this segment name: a price row, by its id, or an account, by the number before it."""


_ENDING = Record.ENDING
"""Said by itself, since members of an enum are slow to find."""


class _Segment:
    """One file and its mapping."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.open_attempts = 0
        self.touched_at = 0.0
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(self.fd, 0, size)
            self.memory = mmap.mmap(self.fd, size)
        except OSError:
            os.close(self.fd)
            path.unlink()
            raise

    def discard(self) -> None:
        """Takes back a segment that holds nothing yet."""
        self.memory.close()
        os.close(self.fd)
        self.path.unlink()


class Wal:
    """The log of this process, in a directory of its own that is locked while the process lives."""

    def __init__(
        self,
        directory: Path,
        *,
        monotonic: Callable[[], float],
        segment_bytes: int = 16 * 1024 * 1024,
        sync_every_s: float = 0.02,
        keep_s: float = 900.0,
        fsync: Fsync = "group",
    ) -> None:
        """Creates and locks `directory` and its first segment.

        Raises:
            OSError: there is no room, or the directory cannot be written.
        """
        self.directory = directory
        self._monotonic = monotonic
        self._size = segment_bytes
        self._sync_every_s = sync_every_s
        self._keep_s = keep_s
        self.waits = fsync == "always"
        """Whether `commit()` does anything."""
        self._lock = _make_locked(directory)
        self._number = 0
        self._segments: list[_Segment] = []
        self._prices: dict[str, Price] = {}
        """Of the current segment, as the next."""
        self._accounts: dict[Account, int] = {}
        self._sequence = 0
        self._reserved = 0
        self._at = 0
        self._dirty = False
        self._sync_handle: asyncio.TimerHandle | None = None
        self._syncer = ThreadPoolExecutor(1, thread_name_prefix="wal-sync")
        self.broken: str | None = None
        """Why the log takes nothing new, None while it does."""
        self._current = self._next_segment()

    def begin(self, kind: Record, brief: bytes, account: Account, price: Price | None) -> Receipt:
        """Opens an attempt.

        Raises:
            GatewayUnavailable: LEDGER_DOWN, there is no room for it.
        """
        if self.broken:
            raise unavailable(self.broken)
        named: Sequence[bytes] = ()
        size = len(brief) + _LEAST_ROOM
        if account not in self._accounts or (price is not None and self._prices.get(price.price_id) is not price):
            named = self._definitions(account, price)
            size += sum(map(len, named))
        if self._at + self._reserved + size > self._size:
            self._accounts, self._prices = {}, {}  # the next segment knows nothing
            named = self._definitions(account, price)
            self._roll(len(brief) + sum(map(len, named)) + _LEAST_ROOM)
        if named:
            for definition in named:
                self._append(Record.NAMED, 0, definition)
            self._accounts.setdefault(account, len(self._accounts))
            if price is not None:
                self._prices[price.price_id] = price
        self._sequence = sequence = (self._sequence + 1) % _SEQUENCES
        self._reserved += ENDING_ROOM
        self._current.open_attempts += 1
        self._append(kind, sequence, b"%d%b" % (self._accounts[account], brief))
        return sequence, self._number

    def _definitions(self, account: Account, price: Price | None) -> list[bytes]:
        """What has to be said before an attempt can name these."""
        said = []
        if account not in self._accounts:
            said.append(b"%d,%b" % (len(self._accounts), account.sealed))
        if price is not None and self._prices.get(price.price_id) is not price:
            said.append(encode_price(price))
        return said

    def note(self, kind: Record, sequence: int, payload: bytes) -> None:
        """Adds to an open attempt what recovery can do without; dropped where only the reserved room is left."""
        if self._at + len(payload) + _HEADER_BYTES + self._reserved <= self._size:
            self._append(kind, sequence, payload)

    def sent(self, sequence: int, hold_nano: int) -> None:
        """Says that the attempt is about to be sent; uses the room reserved for it."""
        self._append(Record.SENT, sequence, b"%d" % hold_nano)

    def commit(self) -> None:
        """To be called before an attempt is sent: all records so far are on the disk then, where `fsync` is `always`.

        Raises:
            GatewayUnavailable: LEDGER_DOWN, they are not.
        """
        if self.waits:
            self._flush(self._current.fd)
            if self.broken:
                raise unavailable(self.broken)

    def end(self, sequence: int, ending: bytes) -> None:
        """Writes an ending into the room reserved for it."""
        self._reserved -= ENDING_ROOM
        self._append(_ENDING, sequence, ending)
        if self.waits:
            self._flush(self._current.fd)

    def drop(self, receipt: Receipt) -> None:
        """Forgets an attempt that was never sent and holds nothing."""
        self._reserved -= ENDING_ROOM
        self.settled([receipt])

    def settled(self, attempts: Iterable[Receipt]) -> None:
        """Notes that the store has the endings of these attempts, one or more."""
        sequences, numbers = zip(*attempts, strict=True)
        now = self._monotonic()
        first = self._number - len(self._segments) + 1
        for number in set(numbers):
            segment = self._segments[number - first]
            segment.open_attempts -= numbers.count(number)
            segment.touched_at = now
        self.note(Record.SETTLED, 0, struct.pack(f"<{len(sequences)}I", *sequences))

    def prune(self) -> None:
        """Deletes the oldest segments of which nothing is open and nothing was settled for `keep_s`."""
        now = self._monotonic()
        while len(self._segments) > 1:
            oldest = self._segments[0]
            if oldest.open_attempts or now - oldest.touched_at < self._keep_s:
                return
            oldest.path.unlink(missing_ok=True)
            del self._segments[0]

    @property
    def open_attempts(self) -> int:
        """Attempts whose ending the store does not have yet."""
        return sum(s.open_attempts for s in self._segments)

    async def close(self) -> None:
        """Flushes, unmaps and unlocks; the directory is deleted where nothing is left open."""
        self.broken = self.broken or "the ledger is closed"
        if self._sync_handle is not None:
            self._sync_handle.cancel()
        await asyncio.to_thread(self._syncer.shutdown)  # waits for flushes under way
        done = self.open_attempts == 0
        if not done:
            await asyncio.to_thread(os.fdatasync, self._current.fd)
        self._current.memory.close()
        os.close(self._current.fd)
        if done:
            remove_log(self.directory)
        os.close(self._lock)

    def _append(self, kind: Record, sequence: int, payload: bytes) -> None:
        at, length = self._at, len(payload)
        self._at = end = at + _HEADER_BYTES + length
        header = _pack(length, crc32(payload, sequence << 3 | kind), kind, sequence)
        self._current.memory[at:end] = header + payload
        if not self._dirty:
            self._dirty = True
            self._sync_handle = asyncio.get_running_loop().call_later(self._sync_every_s, self._sync)

    def _roll(self, size: int) -> None:
        if self._reserved + size > self._size:
            raise unavailable("too many attempts are under way")
        filled = self._current
        try:
            self._current = self._next_segment()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                self.broken = f"the write-ahead log cannot be extended: {error.strerror}"
            raise unavailable("there is no room for the write-ahead log") from error
        filled.memory.close()  # its pages stay with the kernel until they are flushed
        self._syncer.submit(self._retire, filled.fd)

    def _next_segment(self) -> _Segment:
        segment = _Segment(self.directory / f"{self._number + 1:08d}.log", self._size)
        if self.waits:
            try:
                flush_folder(self.directory)
            except OSError:
                segment.discard()  # else the next one of this name meets it
                raise
        segment.touched_at = self._monotonic()
        self._number += 1
        self._segments.append(segment)
        self._at = 0
        return segment

    def _sync(self) -> None:
        self._dirty = False
        self._syncer.submit(self._flush, self._current.fd)

    def _retire(self, fd: int) -> None:
        self._flush(fd)
        os.close(fd)

    def _flush(self, fd: int) -> None:
        try:
            os.fdatasync(fd)
        except OSError as error:
            self.broken = f"the write-ahead log cannot be flushed: {error.strerror}"


def _make_locked(directory: Path) -> int:
    """Makes a directory that is locked from the moment others can see it; gives the lock's descriptor."""
    directory.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    hidden = directory.with_name(f".{directory.name}")
    hidden.mkdir(mode=0o700)
    lock = lock_directory(hidden)
    hidden.rename(directory)
    return lock


def lock_directory(directory: Path) -> int:
    """Locks a log's directory for as long as the descriptor it gives is open.

    Raises:
        BlockingIOError: a living process has it.
    """
    fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


def flush_folder(folder: Path) -> None:
    """Has the disk keep the names of what is in a folder."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def remove_log(directory: Path) -> None:
    """Deletes a log whose every attempt is settled."""
    for path in sorted(directory.glob("*.log")):
        path.unlink(missing_ok=True)
    (directory / "lock").unlink(missing_ok=True)
    directory.rmdir()


def read_segment(data: bytes | memoryview) -> Iterable[tuple[Record, int, bytes]]:
    """The whole records of a segment, in order, up to the first that is torn or missing."""
    at, size = 0, len(data)
    while at + _HEADER_BYTES <= size:
        length, crc, kind, sequence = _HEADER.unpack_from(data, at)
        start = at + _HEADER_BYTES
        end = start + length
        if not 1 <= kind <= Record.NAMED or sequence >= _SEQUENCES or end > size:
            return
        payload = bytes(data[start:end])
        if crc32(payload, sequence << 3 | kind) != crc:
            return
        yield Record(kind), sequence, payload
        at = end
