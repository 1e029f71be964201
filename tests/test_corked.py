"""Small writes wait for the loop to come round, and order is kept whatever else is done, over real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from gateway.corked import Corked, Turns

_LONG = b"l" * 100_000


class _Line:
    """A corked transport and the socket at its other end."""

    def __init__(self, corked: Corked, far: socket.socket) -> None:
        self.corked = corked
        self.far = far

    def arrived(self) -> bytes:
        """What has come so far, without waiting."""
        try:
            return self.far.recv(1_000_000)
        except BlockingIOError:
            return b""

    async def everything(self, size: int) -> bytes:
        """The next `size` bytes, or what comes before the line is closed."""
        loop, data = asyncio.get_running_loop(), b""
        while len(data) < size and (piece := await loop.sock_recv(self.far, size - len(data))):
            data += piece
        return data


@pytest.fixture
async def line() -> AsyncIterator[_Line]:
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=near)
    yield _Line(Corked(transport, loop), far)
    if not transport.is_closing():
        transport.abort()
    far.close()


async def test_a_small_piece_leaves_when_the_loop_has_come_round(line: _Line) -> None:
    """What others do in the same turn comes first."""
    line.corked.write(b"small")
    assert line.arrived() == b""
    assert line.corked.get_write_buffer_size() == 5
    assert await line.everything(5) == b"small"
    assert line.corked.get_write_buffer_size() == 0


async def test_pieces_of_one_turn_keep_their_order(line: _Line) -> None:
    line.corked.write(b"one ")
    line.corked.write(b"two ")
    line.corked.write(b"")
    line.corked.writelines([b"three ", b"four "])
    line.corked.write(b"five ")
    line.corked.write(_LONG)
    expected = b"one two three four five " + _LONG
    assert await line.everything(len(expected)) == expected


async def test_a_long_piece_leaves_at_once(line: _Line) -> None:
    line.corked.write(_LONG)
    assert line.arrived() != b""


async def test_closing_sends_what_waits(line: _Line) -> None:
    line.corked.write(b"last words")
    line.corked.close()
    assert await line.everything(100) == b"last words"


async def test_giving_up_sends_nothing_more(line: _Line) -> None:
    line.corked.write(b"never mind")
    line.corked.abort()
    assert await line.everything(100) == b""


async def test_a_line_that_closes_meanwhile_takes_nothing(line: _Line) -> None:
    """No write to a dead socket, of which the event loop would complain."""
    line.corked.write(b"too late")
    transport = line.corked._transport
    transport.abort()
    assert line.corked.is_closing()
    assert await line.everything(100) == b""
    assert line.corked.held == b"too late"


async def test_nothing_follows_a_gap(line: _Line) -> None:
    """A line that closes while its far side reads slowly takes all that is written from then on, or none of it."""
    line.far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    line.corked.write(_LONG * 50)
    line.corked.close()
    line.corked.write(b"one")
    line.corked.write(b"two")
    line.corked.writelines([b"three"])
    line.corked.write(_LONG)
    assert (await line.everything(len(_LONG) * 60)).lstrip(b"l") == b""


class _Noted:
    """A transport that notes what is written to it, and fails where that is so."""

    get_extra_info = pause_reading = resume_reading = None

    def __init__(self, written: list[bytes], *, fails: bool = False) -> None:
        self._written = written
        self._fails = fails

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        if self._fails:
            raise OSError
        self._written.append(data)


def _corked(transport: _Noted) -> Corked:
    return Corked(cast(asyncio.Transport, transport), asyncio.get_running_loop())


async def _turns(number: int) -> None:
    """Has the loop come round so often."""
    for _ in range(number):
        await asyncio.sleep(0)


async def _calm(line: Corked, written: list[bytes]) -> None:
    """Has it write so often, with few requests under way, that it no longer waits; forgets what it wrote."""
    for _ in range(100):
        line.write(b"calm")
        await _turns(2)
    written.clear()


async def test_lines_of_one_turn_write_one_after_the_other() -> None:
    """What is flushed early is not written again, and what follows it has its place."""
    written: list[bytes] = []
    one, two, three = (_corked(_Noted(written)) for _ in range(3))
    one.write(b"1")
    two.write(b"2")
    three.write(b"3")
    two.flush()
    two.write(b"22")
    await _turns(2)
    assert written == [b"2", b"1", b"22", b"3"]
    one.write(b"again")
    await _turns(2)
    assert written[4:] == [b"again"]


async def test_what_the_next_turn_has_to_say_leaves_together_with_it() -> None:
    """Nothing is written in the turn in which a request was heard, nor later than at the end of the next."""
    written: list[bytes] = []
    one, two = _corked(_Noted(written)), _corked(_Noted(written))
    one.write(b"1")
    asyncio.get_running_loop().call_soon(two.write, b"2")
    await _turns(1)
    assert written == []
    await _turns(1)
    assert written == [b"1", b"2"]


async def test_few_requests_do_not_wait_for_each_other() -> None:
    """Once it has been so for a while; the turn of a piece that waited still comes, and has nothing left to write."""
    written: list[bytes] = []
    one, two = _corked(_Noted(written)), _corked(_Noted(written))
    Turns.of(asyncio.get_running_loop()).requests = {1, 2}
    one.write(b"waits")
    assert written == []
    await _calm(one, written)
    two.write(b"1")
    one.write(b"2")
    two.write(b"3")
    assert written == [b"1", b"2", b"3"]
    await _turns(3)
    assert len(written) == 3


async def test_who_comes_while_others_wait_leaves_with_them() -> None:
    """However few have become: the turn is under way."""
    written: list[bytes] = []
    one, two = _corked(_Noted(written)), _corked(_Noted(written))
    await _calm(one, written)
    requests = {1, 2, 3}
    Turns.of(asyncio.get_running_loop()).requests = requests
    one.write(b"1")
    requests.clear()
    two.write(b"2")
    one.write(b"1")
    assert written == []
    await _turns(2)
    assert written == [b"11", b"2"]


async def test_a_third_request_makes_all_wait_anew() -> None:
    """And one that is gone does not at once end it: few are left at the end of each batch of many."""
    written: list[bytes] = []
    line = _corked(_Noted(written))
    await _calm(line, written)
    requests = {1, 2}
    Turns.of(asyncio.get_running_loop()).requests = requests
    line.write(b"at once")
    assert written == [b"at once"]
    requests.add(3)
    line.write(b"waits ")
    requests.remove(3)
    line.write(b"still")
    assert written == [b"at once"]
    await _turns(2)
    assert written[1:] == [b"waits still"]
    line.write(b"later")
    assert len(written) == 2
    await _turns(2)
    assert written[2:] == [b"later"]


async def test_pieces_that_wait_together_count_as_one_calm_moment() -> None:
    """Many that are written in one turn do not show that few are under way for long."""
    written: list[bytes] = []
    lines = [_corked(_Noted(written)) for _ in range(100)]
    for line in lines:
        line.write(b"piece")
    assert written == []
    await _turns(2)
    assert len(written) == 100


async def test_small_pieces_of_a_line_leave_as_one() -> None:
    """However many; those that come to a long one leave at once, behind what waited."""
    written: list[bytes] = []
    line = _corked(_Noted(written))
    for piece in (b"one ", b"two ", b"", b"three"):
        line.write(piece)
    await _turns(2)
    assert written == [b"one two three"]
    line.write(b"four")
    line.write(_LONG)
    assert written[1:] == [b"four", _LONG]
    await _turns(3)
    assert len(written) == 3


async def test_a_line_that_fails_does_not_hold_up_the_others_of_its_turn() -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    written: list[bytes] = []
    lines = [_corked(_Noted(written)), _corked(_Noted(written, fails=True)), _corked(_Noted(written))]
    for number, line in enumerate(lines):
        line.write(b"%d" % number)
    await _turns(3)
    assert written == [b"0", b"2"]
    assert [type(context["exception"]) for context in told] == [OSError]
