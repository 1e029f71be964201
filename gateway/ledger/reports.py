"""What was spent, from roll-ups alone, and single entries from the journal. The sum of one is the sum of the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from gateway.ledger.attempt import MAX_RETRY
from gateway.ledger.exchange import tag
from gateway.ledger.records import (
    DIMENSIONS,
    METRICS,
    SEPARATOR,
    USAGE_FIELDS,
    Ending,
    Envelope,
    aid_hour,
    decode_line,
    entry,
)
from gateway.ledger.refusal import usd
from gateway.storage.client import Store

HOUR_S, DAY_S = 3600, 86_400
HOURS_KEPT_S = 14 * DAY_S
LATEST_S = 50 * HOUR_S
"""How long after its start an attempt may still be booked or corrected."""
PERIODS = {"hour": "%Y-%m-%dT%H:00Z", "day": "%Y-%m-%d", "month": "%Y-%m"}
NO_TAG = "(none)"

_PAGE = 200
_decode_cell = msgspec.msgpack.Decoder(tuple[int, ...]).decode
_COST = METRICS.index("cost_nano")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a report."""

    names: tuple[str, ...]
    """Values of what the report is by, in that order."""
    numbers: tuple[int, ...]
    """Sums, in the order of `METRICS`."""

    @property
    def cost_nano(self) -> int:
        return self.numbers[_COST]

    def as_dict(self, by: Sequence[str]) -> dict[str, str | int]:
        """The row with names; `cost_usd` is a decimal string."""
        numbers = dict(zip(METRICS, self.numbers, strict=True))
        cost = numbers.pop("cost_nano")
        return {**dict(zip(by, self.names, strict=True)), **numbers, "cost_nano_usd": cost, "cost_usd": usd(cost)}


async def report(
    store: Store, tenant: str, from_at: float, to_at: float, by: Sequence[str] = (), *, now: float
) -> list[Row]:
    """Sums over attempts that started in `from_at` <= at < `to_at` (epoch seconds, whole UTC hours), sorted by name.

    `by` takes `hour`, `day`, `month`, the names in `DIMENSIONS`, and one `tag:NAME`. Attempts under way are not in it.
    Single hours are kept for 14 days, whole days for 400; tags are kept for whole days only.

    Raises:
        ValueError: the range or a name cannot be answered, saying why.
        redis.exceptions.RedisError: the store does not answer.
    """
    _check(by)
    tag_name = next((name[4:] for name in by if name.startswith("tag:")), None)
    sums: dict[tuple[str, ...], list[int]] = {}
    for key, start in _periods(from_at, to_at, by, whole_days=tag_name is not None, now=now):
        cells = await _cells(store, tag(tenant) + "r:" + key)
        if tag_name is None:
            _add(sums, cells, by, start)
            continue
        tagged = await _cells(store, tag(tenant) + "r:t:" + key[2:])
        for dim, numbers in tagged.items():
            name, value, rest = dim.split(SEPARATOR, 2)
            if name == tag_name:
                _add(sums, {rest: numbers}, by, start, value)
                _add(sums, {rest: tuple([-n for n in numbers])}, by, start, NO_TAG)
        _add(sums, cells, by, start, NO_TAG)
    return [Row(names, tuple(numbers)) for names, numbers in sorted(sums.items()) if any(numbers)]


async def entries(store: Store, tenant: str, from_at: float, to_at: float) -> AsyncIterator[dict[str, Any]]:
    """The journal's entries of attempts that started in `from_at` <= at < `to_at`, in the order they were booked.

    A correction is an entry of its own (`kind: adjustment`) whose usage and cost are what it adds.

    Raises:
        redis.exceptions.RedisError: the store does not answer.
    """
    async for found in _scan(store, tenant, from_at, to_at + LATEST_S):
        if from_at <= found["at"] < to_at:
            yield found


async def entries_of(store: Store, tenant: str, request_id: str) -> list[dict[str, Any]]:
    """The entries of one request, corrections included; empty where there are none.

    Raises:
        redis.exceptions.RedisError: the store does not answer.
    """
    if len(request_id) != 36 or not request_id.startswith("req_"):
        return []
    try:
        started_at = int(request_id[4:16], 16) / 1000
    except ValueError:
        return []
    aids = [f"{request_id[4:35]}{n:x}" for n in range(MAX_RETRY + 1)]
    markers = await store.execute_command("HMGET", f"{tag(tenant)}d:{aid_hour(aids[0])}", *aids)
    if any(markers):
        ids = {i for m in markers if m for i in m.decode().split(":", 2)[2].split(",") if i}
        found = [e for i in sorted(ids, key=_stream_order) async for e in _read(store, tenant, i, i)]
    else:  # the markers are forgotten after two days: look through the journal of that time
        found = [e async for e in _scan(store, tenant, started_at, started_at + LATEST_S)]
    return [e for e in found if e["request_id"] == request_id]


def _check(by: Sequence[str]) -> None:
    known = (*PERIODS, *DIMENSIONS)
    for name in by:
        if name not in known and not (name.startswith("tag:") and len(name) > 4):
            raise ValueError(f"cannot report by {name!r}; want some of {', '.join(known)}, or tag:NAME")
    if len(set(by)) != len(by) or sum(name.startswith("tag:") for name in by) > 1:
        raise ValueError("a report can be by each name once, and by one tag")


def _periods(
    from_at: float, to_at: float, by: Sequence[str], *, whole_days: bool, now: float
) -> Iterator[tuple[str, int]]:
    """The roll-ups that make up a range: `h:<hour>` or `d:<day>`, each with its start."""
    if from_at % HOUR_S or to_at % HOUR_S:
        raise ValueError("a report begins and ends at whole UTC hours")
    at, end = int(from_at), int(to_at)
    while at < end:
        day_ends = at - at % DAY_S + DAY_S
        if at % DAY_S == 0 and day_ends <= end and "hour" not in by:
            yield datetime.fromtimestamp(at, UTC).strftime("d:%Y%m%d"), at
            at = day_ends
            continue
        if whole_days:
            raise ValueError("a report by tag covers whole UTC days and cannot be by hour")
        if now - at > HOURS_KEPT_S:
            raise ValueError("single hours are kept for 14 days; ask for whole UTC days, and not by hour")
        yield datetime.fromtimestamp(at, UTC).strftime("h:%Y%m%d%H"), at
        at += HOUR_S


async def _cells(store: Store, key: str) -> dict[str, tuple[int, ...]]:
    found = await store.execute_command("HGETALL", key)
    return {dim.decode(): _decode_cell(numbers) for dim, numbers in found.items()}


def _add(
    sums: dict[tuple[str, ...], list[int]],
    cells: dict[str, tuple[int, ...]],
    by: Sequence[str],
    start: int,
    tag_value: str = "",
) -> None:
    period = datetime.fromtimestamp(start, UTC)
    fixed = {name: period.strftime(form) for name, form in PERIODS.items()}
    places = [(fixed[n], -1) if n in fixed else ("", DIMENSIONS.index(n) if n in DIMENSIONS else -2) for n in by]
    for dim, numbers in cells.items():
        parts = dim.split(SEPARATOR)
        names = tuple([parts[i] if i >= 0 else tag_value if i == -2 else text for text, i in places])
        total = sums.get(names)
        if total is None:
            sums[names] = list(numbers)
        else:
            for i, n in enumerate(numbers):
                total[i] += n


async def _scan(store: Store, tenant: str, from_at: float, to_at: float) -> AsyncIterator[dict[str, Any]]:
    after = f"{max(0, int((from_at - 300) * 1000))}-0"  # clocks may differ by five minutes
    until = f"{int((to_at + 300) * 1000)}"
    async for found in _read(store, tenant, after, until):
        yield found


async def _read(store: Store, tenant: str, after: str, until: str) -> AsyncIterator[dict[str, Any]]:
    while True:
        records = await store.execute_command("XRANGE", tag(tenant) + "out", after, until, "COUNT", _PAGE)
        for _, fields in records:
            for text in fields[b"e"].split(b"\n"):
                yield _parse(text)
        if len(records) < _PAGE:
            return
        milliseconds, number = records[-1][0].split(b"-")
        after = f"{milliseconds.decode()}-{int(number) + 1}"


def _parse(text: bytes) -> dict[str, Any]:
    """A line of the journal: `N <entry>`, or `A <differences> <entry>` for a correction."""
    kind, _, rest = text.partition(b" ")
    if kind == b"N":
        return {"kind": "entry", **_entry(rest)}
    numbers, _, rest = rest.partition(b" ")
    added = dict(zip(METRICS, map(int, numbers.split(b",")), strict=True))
    usage = {name: added[name] for name in USAGE_FIELDS}
    return {"kind": "adjustment", **_entry(rest), "usage": usage, "cost_nano_usd": added["cost_nano"]}


def _entry(text: bytes) -> dict[str, Any]:
    halves: tuple[Envelope, Ending] = decode_line(text)
    return entry(*halves)


def _stream_order(stream_id: str) -> tuple[int, int]:
    milliseconds, number = stream_id.split("-")
    return int(milliseconds), int(number)
