"""What was spent, from roll-ups alone. The sum of a period is the sum of its entries in the journal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from gateway.ledger.account import SEPARATOR
from gateway.ledger.exchange import tag
from gateway.ledger.records import DIMENSIONS, METRICS
from gateway.money import usd
from gateway.storage.client import Store

HOUR_S, DAY_S = 3600, 86_400
HOURS_KEPT_S = 14 * DAY_S
PERIODS = {"hour": "%Y-%m-%dT%H:00Z", "day": "%Y-%m-%d", "month": "%Y-%m"}
NO_TAG = "(none)"

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
        """The row with names; `cost_usd` is a decimal string, `as_booked_usd` the same without re-rating."""
        numbers = dict(zip(METRICS, self.numbers, strict=True))
        cost, rerated = numbers.pop("cost_nano"), numbers.pop("rerated_nano")
        money: dict[str, str | int] = {
            "as_booked_usd": usd(cost - rerated),
            "cost_nano_usd": cost,
            "cost_usd": usd(cost),
        }
        return {**dict(zip(by, self.names, strict=True)), **numbers, **money}


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
            kept = datetime.fromtimestamp(math.ceil((now - HOURS_KEPT_S) / HOUR_S) * HOUR_S, UTC)
            raise ValueError(
                f"single hours are kept for 14 days; begin at {kept:%Y-%m-%dT%H:%M:%SZ} or later, "
                "or ask for whole UTC days and not by hour"
            )
        yield datetime.fromtimestamp(at, UTC).strftime("h:%Y%m%d%H"), at
        at += HOUR_S


async def _cells(store: Store, key: str) -> dict[str, tuple[int, ...]]:
    found = await store.execute_command("HGETALL", key)
    return {dim.decode(): _cell(numbers) for dim, numbers in found.items()}


def _cell(packed: bytes) -> tuple[int, ...]:
    """Its numbers; those that it is too old to have are 0."""
    numbers = _decode_cell(packed)
    return numbers if len(numbers) == len(METRICS) else numbers + (0,) * (len(METRICS) - len(numbers))


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
