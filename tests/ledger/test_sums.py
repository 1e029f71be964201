"""Endings added up and endings told one by one leave the same books."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest
from books import attempt
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from stores import StoreServer

from gateway.ledger import exchange as exchange_module
from gateway.ledger.exchange import Exchange, tag
from gateway.ledger.limits import Window
from gateway.ledger.lines import lines_of, parse
from gateway.ledger.records import Booking, booking, encode, line, tombstone, usage_numbers
from gateway.ledger.sums import add_up, alone
from gateway.storage.client import connect
from gateway.types import Usage

_NOW_MS = int(time.time()) * 1000  # markers are forgotten after some days
_SLAB, _SLAB_NANO = "5" * 32, 1_000
_SLAB_HOLD = msgspec.msgpack.encode([_SLAB_NANO, ["b:b1:total"], [], "[]", 0, 0])
_FULL_AT = 9_000_000_000_000  # ms: far enough ahead that the time of a run does not show in a bucket


def _ending(
    number: int,
    outcome: Any = "P",
    nano: int = 7,
    *,
    output: int = 1,
    tags: tuple[tuple[str, str], ...] = (),
    limited: bool = False,
    slab: bool = False,
    held: bool = False,
    model: str = "m",
) -> Booking:
    """How an attempt ended. Its id, and so the hour it is remembered under, comes of its number."""
    a = attempt(
        request_id=f"req_{number // 4 * 3_600_000 + _NOW_MS:012x}7{number:018x}0",
        at=_NOW_MS / 1000 + number % 3 * 3600,
        tags=tags,
        model=model,
    )
    a.windows = (
        (Window("b:b1:total", 10_000, 0, True), Window(f"b:b2:{model}", 50, 4_000_000_000, True)) if limited else ()
    )
    a.slab, a.hold_nano = (_SLAB, 300) if slab else ("", 0)
    numbers = usage_numbers(Usage(input=3, output=output))
    text = encode((outcome, nano, numbers, "provider", "complete", 1, None, None, 200, False))
    corrections = (("t:k1", 60, output - 9), ("r:k1", 7, -1)) if limited else ()
    return booking(a, outcome, nano, numbers, line(a.seal(), text), may_be_held=held, corrections=corrections)


_endings = st.one_of(
    st.builds(
        _ending,
        st.integers(0, 11),
        st.sampled_from(["P", "P", "P", "E", "V"]),
        st.sampled_from([0, 7, 250, 400]),
        output=st.integers(0, 10**12),
        tags=st.sampled_from([(), (("team", "a"),), (("team", "a"), ("env", "x\x1fy"))]),
        limited=st.booleans(),
        slab=st.booleans(),
        held=st.sampled_from([False, False, True]),
        model=st.sampled_from(["m", "other"]),
    ),
    st.just(tombstone(_SLAB, (("r:k1", 7, -3),))),
)


async def _books(store: Redis, batches: list[list[Booking]]) -> tuple[list[Any], dict[str, Any]]:
    """What the store answers to these batches, and what it holds then, without the ids that it gave."""
    await store.execute_command("FLUSHALL")
    main = tag("main")
    await store.hset(main + "h", _SLAB, _SLAB_HOLD)
    await store.hset(main + "b:b1:total", "res", _SLAB_NANO)
    await store.hset(main + "rl", mapping={"t:k1": _FULL_AT, "r:k1": _FULL_AT})
    exchange, replies = Exchange(store, "o1"), []
    for batch in batches:
        reply = await exchange.run("main", 0.0, batch, [], [])
        replies.append((reply.exceptions, sorted(reply.touched), sorted(reply.alerts)))
    found: dict[str, Any] = {}
    for key in sorted(await store.keys("*")):
        name = key.decode()
        if name == main + "out":
            told = [lines_of(entry[b"e"]) for _, entry in await store.xrange(name)]
            found[name] = [sorted(lines) for lines in told]
        elif name == main + "quarantine":
            found[name] = [(e[b"was"].rpartition(b":")[0], e[b"e"]) for _, e in await store.xrange(name)]
        elif name == main + "rl":
            found[name] = {k: pytest.approx(float(v), abs=0.01) for k, v in (await store.hgetall(name)).items()}
        elif name.startswith(main + "d:"):
            found[name] = {k: v.rpartition(b":")[0] for k, v in (await store.hgetall(name)).items()}
        elif name.startswith(main) and not name.endswith((":alerts", ":own")):
            found[name] = (await store.hgetall(name), await store.ttl(name) > 0)
    return replies, found


@given(st.lists(st.lists(_endings, max_size=8), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_added_up_leaves_the_books_that_each_alone_would(
    session_store: StoreServer, batches: list[list[Booking]]
) -> None:
    """Whatever is among them: repeats, estimates and their truth, other amounts, slabs and their ends, tags."""

    async def both() -> None:
        store = connect(str(session_store.socket))
        try:
            added_up = await _books(store, batches)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(exchange_module, "add_up", lambda endings: (None, list(range(len(endings)))))
                each_alone = await _books(store, batches)
        finally:
            await store.aclose()
        assert added_up == each_alone

    asyncio.run(both())


def test_only_what_simply_applies_is_added_up() -> None:
    """Estimates, voids, what frees a hold and what ends twice are told one by one."""
    plain = [_ending(1, nano=5), _ending(2, nano=6)]
    sums, apart = add_up([plain[0], _ending(3, "E"), _ending(4, "V"), _ending(5, held=True), plain[1]])
    assert apart == [1, 2, 3]
    assert sums is not None
    assert [cell[4][11] for cell in sums.cells] == [5, 6]  # of different hours
    assert [text[:2] for text in sums.text.splitlines()] == [b"N "] * 2
    assert add_up([plain[0], plain[0]]) == (None, range(2))
    assert add_up([]) == (None, [])


def test_of_attempts_alike_one_entry_says_what_they_have_in_common() -> None:
    """The others cost half of the room, and are read as if each had said it."""
    numbers = {"m": (0, 3), "other": (12, 15)}  # of one hour each
    endings = [_ending(number, model=model) for model, some in numbers.items() for number in some]
    sums, _ = add_up(endings)
    assert sums is not None
    assert [text[:2] for text in sums.text.splitlines()] == [b"N ", b"L "] * 2
    read = [parse(text) for text in lines_of(sums.text)]
    assert [line.envelope.model for line in read] == ["m", "m", "other", "other"]
    assert read == [parse(b"N " + alone(ending)[9].encode()) for ending in endings]
