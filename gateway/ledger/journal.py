"""The journal: every entry as it was booked, found by period, by request or by attempt."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from itertools import islice
from typing import Any, NamedTuple

from gateway.ledger.attempt import MAX_RETRY
from gateway.ledger.exchange import tag
from gateway.ledger.records import METRICS, USAGE_FIELDS, Ending, Envelope, aid_hour, decode_line, entry, numbers_of
from gateway.storage.client import Store

LATEST_S = 50 * 3600
"""How long after its start an attempt may still be booked; only corrections of people come later."""
_SKEW_S = 300
_PAGE = 200


class Line(NamedTuple):
    """One line of the journal."""

    adjustment: bool
    """Whether it corrects an earlier one: `numbers` are then differences."""
    envelope: Envelope
    ending: Ending
    numbers: tuple[int, ...]
    """What it adds to the sums, in the order of `METRICS`."""

    def as_dict(self) -> dict[str, Any]:
        """As tools and finance read it; usage and cost of an adjustment are what it adds."""
        if not self.adjustment:
            return {"kind": "entry", **entry(self.envelope, self.ending)}
        added = dict(zip(METRICS, self.numbers, strict=True))
        usage = {name: added[name] for name in USAGE_FIELDS}
        shown = entry(self.envelope, self.ending)
        return {"kind": "adjustment", **shown, "usage": usage, "cost_nano_usd": added["cost_nano"]}


async def lines(store: Store, tenant: str, from_at: float, to_at: float) -> AsyncIterator[Line]:
    """Lines of attempts that started in `from_at` <= at < `to_at` (epoch seconds), corrections last.

    Raises:
        redis.exceptions.RedisError: the store does not answer.
    """
    until = f"{int((to_at + LATEST_S + _SKEW_S) * 1000)}"
    async for line in _scan(store, tenant, from_at, until):
        if from_at <= line.envelope.at < to_at:
            yield line
    late = set()
    for day in range(int(from_at - _SKEW_S) // 86_400, int(to_at + _SKEW_S) // 86_400 + 1):
        for ids in await store.execute_command("HVALS", f"{tag(tenant)}x:{day}"):
            late |= {i for i in ids.decode().split(",") if _stream_order(i)[0] > int(until)}
    for line in await _lines_at(store, tenant, late):
        if from_at <= line.envelope.at < to_at:
            yield line


async def entries(store: Store, tenant: str, from_at: float, to_at: float) -> AsyncIterator[dict[str, Any]]:
    """The same as they are shown. A correction is an entry of its own (`kind: adjustment`).

    Raises:
        redis.exceptions.RedisError: the store does not answer.
    """
    async for line in lines(store, tenant, from_at, to_at):
        yield line.as_dict()


async def entries_of(store: Store, tenant: str, request_id: str) -> list[dict[str, Any]]:
    """The entries of one request, corrections included; empty where there are none.

    Raises:
        redis.exceptions.RedisError: the store does not answer.
    """
    if len(request_id) != 36 or not request_id.startswith("req_"):
        return []
    try:
        aids = [f"{request_id[4:35]}{n:x}" for n in range(MAX_RETRY + 1)]
        aid_hour(aids[0])
    except ValueError:
        return []
    found = await lines_of(store, tenant, aids)
    return [line.as_dict() for line in found if line.envelope.request_id == request_id]


async def lines_of(store: Store, tenant: str, aids: Iterable[str]) -> list[Line]:
    """The lines of these attempts in the order they were booked.

    Where their markers are forgotten (after two days) the journal of that time is read through, once for all of them.

    Raises:
        redis.exceptions.RedisError: the store does not answer.
    """
    wanted = set(aids)
    ids, unmarked = await _marked(store, tenant, wanted)
    marked = wanted - unmarked
    found = [line for line in await _lines_at(store, tenant, ids) if line.envelope.aid in marked]
    if not unmarked:
        return found
    began = [int(aid[:12], 16) / 1000 for aid in unmarked]
    until = f"{int((max(began) + LATEST_S + _SKEW_S) * 1000)}"
    found += [line async for line in _scan(store, tenant, min(began), until) if line.envelope.aid in unmarked]
    late = {i for i in await _corrected(store, tenant, unmarked) if _stream_order(i)[0] > int(until)}
    return found + [line for line in await _lines_at(store, tenant, late) if line.envelope.aid in unmarked]


async def _marked(store: Store, tenant: str, aids: set[str]) -> tuple[set[str], set[str]]:
    """Where the journal has these attempts by their markers, and those of hours that have no markers (any more)."""
    hours: dict[int, list[str]] = {}
    for aid in sorted(aids):
        hours.setdefault(aid_hour(aid), []).append(aid)
    ids: set[str] = set()
    unmarked: set[str] = set()
    for hour, group in hours.items():
        markers = await store.execute_command("HMGET", f"{tag(tenant)}d:{hour}", *group)
        ids |= {i for m in markers if m for i in m.decode().split(":", 2)[2].split(",") if i}
        if not await store.execute_command("EXISTS", f"{tag(tenant)}d:{hour}"):
            unmarked |= set(group)
    return ids, unmarked


async def _corrected(store: Store, tenant: str, aids: set[str]) -> set[str]:
    """Where the journal has corrections of these attempts."""
    days: dict[int, list[str]] = {}
    for aid in aids:
        days.setdefault(aid_hour(aid) // 24, []).append(aid)
    ids: set[str] = set()
    for day, group in days.items():
        found = await store.execute_command("HMGET", f"{tag(tenant)}x:{day}", *group)
        ids |= {i for text in found if text for i in text.decode().split(",")}
    return ids


async def _lines_at(store: Store, tenant: str, ids: set[str]) -> list[Line]:
    """The lines of these records of the journal, in its order."""
    found: list[Line] = []
    rest = iter(sorted(ids, key=_stream_order))
    while page := list(islice(rest, _PAGE)):
        pipeline = store.pipeline(transaction=False)
        for stream_id in page:
            pipeline.execute_command("XRANGE", tag(tenant) + "out", stream_id, stream_id)
        for records in await pipeline.execute():
            found += [_parse(text) for _, fields in records for text in fields[b"e"].split(b"\n")]
    return found


async def _scan(store: Store, tenant: str, from_at: float, until: str) -> AsyncIterator[Line]:
    after = f"{max(0, int((from_at - _SKEW_S) * 1000))}-0"  # clocks may differ by five minutes
    while True:
        records = await store.execute_command("XRANGE", tag(tenant) + "out", after, until, "COUNT", _PAGE)
        for _, fields in records:
            for text in fields[b"e"].split(b"\n"):
                yield _parse(text)
        if len(records) < _PAGE:
            return
        milliseconds, number = records[-1][0].split(b"-")
        after = f"{milliseconds.decode()}-{int(number) + 1}"


def _parse(text: bytes) -> Line:
    """A line of the journal: `N <entry>`, or `A <differences> <entry>` for a correction."""
    kind, _, rest = text.partition(b" ")
    if kind == b"N":
        envelope, ending = decode_line(rest)
        return Line(False, envelope, ending, numbers_of(envelope, ending))
    differences, _, rest = rest.partition(b" ")
    numbers = tuple(map(int, differences.split(b",")))
    envelope, ending = decode_line(rest)
    return Line(True, envelope, ending, numbers + (0,) * (len(METRICS) - len(numbers)))


def _stream_order(stream_id: str) -> tuple[int, int]:
    milliseconds, number = stream_id.split("-")
    return int(milliseconds), int(number)
