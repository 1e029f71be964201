"""The provider's bill against the books: what differs is booked as a correction, and said.

A row of the bill names an attempt (our id, which providers get as `X-Client-Request-Id`, or the provider's own request
id) or sums up a day of a model. Importing the same bill again finds nothing to correct.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from gateway.ledger.corrections import (
    COST,
    ESTIMATED,
    UNPRICED,
    USAGE,
    VOID,
    Correction,
    Corrections,
    Position,
    add_line,
    positions,
)
from gateway.ledger.journal import Journal
from gateway.ledger.records import METRICS, NO_USAGE, Ending, Envelope
from gateway.ledger.reports import report

BILLED = "bill "
"""How the reasons of corrections to a bill begin: a bill outweighs any price row."""
_MOST_NAMED = 100
_NOT_BILLED = "not in the provider's bill"


class BillRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a bill. It needs an attempt id; or a provider's request id and the day; or provider, model and day."""

    cost_nano: int
    attempt_id: str = ""
    upstream_id: str = ""
    provider: str = ""
    model: str = ""
    day: str = ""
    """`2026-11-21`, UTC."""
    usage: tuple[int, ...] | None = None
    """The fields of `Usage` in their order; None where the bill tells only money."""


class Group(msgspec.Struct):
    """What a bill and the books say of a model's day, over the rows that were found in the books. Nano-USD."""

    day: str
    provider: str
    model: str
    rows: int = 0
    billed_nano: int = 0
    booked_before_nano: int = 0
    booked_after_nano: int = 0


class Reconciled(msgspec.Struct, kw_only=True):
    """What became of some rows of a bill."""

    rows: int = 0
    exact: int = 0
    """Attempts or days of which the books said the same already."""
    corrected: int = 0
    moved: int = 0
    """Attempts that were booked otherwise while this ran; the next import looks at them again."""
    unknown: int = 0
    """Rows of which the books know nothing. They are not booked: find out whose they are."""
    unknown_nano: int = 0
    unknown_rows: list[str] = []
    """The first hundred of them."""
    groups: list[Group] = []


class _Tally:
    """The groups while rows are looked at."""

    def __init__(self) -> None:
        self.result = Reconciled()
        self._groups: dict[tuple[str, str, str], Group] = {}

    def unknown(self, row: BillRow) -> None:
        self.result.unknown += 1
        self.result.unknown_nano += row.cost_nano
        if len(self.result.unknown_rows) < _MOST_NAMED:
            name = row.attempt_id or row.upstream_id or f"{row.day} {row.provider}/{row.model}"
            self.result.unknown_rows.append(name)

    def found(self, day: str, provider: str, model: str, rows: int, billed: int, before: int) -> Group:
        name = (day, provider, model)
        group = self._groups.setdefault(name, Group(*name))
        group.rows += rows
        group.billed_nano += billed
        group.booked_before_nano += before
        group.booked_after_nano += billed
        return group

    def close(self, rows: int, corrections: Sequence[Correction], left: Iterable[Correction]) -> Reconciled:
        """The result, less what was left alone."""
        result = self.result
        result.rows = rows
        for correction in left:
            envelope = correction.position.envelope
            group = self._groups[_day(envelope.at), envelope.provider, envelope.model]
            group.booked_after_nano -= correction.numbers[COST] - correction.position.cost_nano
            result.moved += 1
        result.corrected = len(corrections) - result.moved
        result.groups = [self._groups[name] for name in sorted(self._groups)]
        return result


async def import_bill(journal: Journal, tenant: str, rows: Sequence[BillRow], name: str, *, run: str) -> Reconciled:
    """Corrects the books to these rows. `name` is the bill's, for the corrections' reason; `run` is any fresh text.

    All rows of an attempt, and of a day's model, must be among them: they are summed up.

    Raises:
        ValueError: a row names neither an attempt nor a day of a model.
        CorrectionsBusy: another import is under way.
        StoreDown, redis.exceptions.RedisError: perhaps some is corrected; import again.
    """
    tally = _Tally()
    async with Corrections(journal.store, tenant, run) as book:
        single = [row for row in rows if row.attempt_id or row.upstream_id]
        daily = [row for row in rows if not (row.attempt_id or row.upstream_id)]
        named = await _named(journal, tenant, single, tally)
        corrections = await _attempts(journal, tenant, named, BILLED + name, tally)
        left = await book.book(corrections)
        days = await _days(journal, tenant, daily, BILLED + name, tally)
        left += await book.book(days)
    return tally.close(len(rows), [*corrections, *days], left)


async def close_period(
    journal: Journal, tenant: str, from_at: float, to_at: float, provider: str, *, run: str
) -> Reconciled:
    """After the whole bill of a period: what is still an estimate there was not billed, and is corrected to nothing.

    Raises:
        CorrectionsBusy: another run of corrections is under way.
        StoreDown, redis.exceptions.RedisError: perhaps some is corrected; close it again.
    """
    tally = _Tally()
    async with Corrections(journal.store, tenant, run) as book:
        guessed: dict[str, Position] = {}
        async for line in journal.lines(tenant, from_at, to_at):
            if line.envelope.provider == provider and (line.numbers[ESTIMATED] or line.envelope.aid in guessed):
                add_line(guessed, line)
        corrections = []
        for position in guessed.values():
            if position.numbers[ESTIMATED]:
                numbers = _changed(position, NO_USAGE, 0)
                corrections.append(Correction(position, numbers, _NOT_BILLED))
                envelope = position.envelope
                tally.found(_day(envelope.at), envelope.provider, envelope.model, 0, 0, position.cost_nano)
        left = await book.book(corrections)
    return tally.close(0, corrections, left)


async def _named(journal: Journal, tenant: str, rows: list[BillRow], tally: _Tally) -> dict[str, list[BillRow]]:
    """Rows by attempt id, those found by the provider's request id among them."""
    named: dict[str, list[BillRow]] = {}
    days: dict[str, dict[str, list[BillRow]]] = {}
    for row in rows:
        if row.attempt_id:
            named.setdefault(row.attempt_id.lower(), []).append(row)
        elif row.day:
            days.setdefault(row.day, {}).setdefault(row.upstream_id, []).append(row)
        else:
            raise ValueError(f"the row of request {row.upstream_id!r} needs its day: requests are looked for by it")
    for day, wanted in days.items():
        at = _start(day)
        async for line in journal.lines(tenant, at, at + 86_400):
            if found := wanted.pop(line.ending.upstream_id or "", None):
                named.setdefault(line.envelope.aid, []).extend(found)
        for missing in wanted.values():
            for row in missing:
                tally.unknown(row)
    return named


async def _attempts(
    journal: Journal, tenant: str, named: dict[str, list[BillRow]], reason: str, tally: _Tally
) -> list[Correction]:
    known = positions(await journal.lines_of(tenant, filter(_is_attempt_id, named)))
    corrections = []
    for aid, rows in named.items():
        position = known.get(aid)
        if position is None:
            for row in rows:
                tally.unknown(row)
            continue
        billed = sum(row.cost_nano for row in rows)
        numbers = _changed(position, _usage(rows), billed)
        envelope = position.envelope
        tally.found(_day(envelope.at), envelope.provider, envelope.model, len(rows), billed, position.cost_nano)
        if numbers == position.numbers:
            tally.result.exact += 1
        else:
            corrections.append(Correction(position, numbers, reason))
    return corrections


async def _days(journal: Journal, tenant: str, rows: list[BillRow], reason: str, tally: _Tally) -> list[Correction]:
    """One correction for each day of a model whose sum differs; it belongs to nobody's key."""
    summed: dict[tuple[str, str, str], list[BillRow]] = {}
    for row in rows:
        if not (row.provider and row.model and row.day):
            raise ValueError("a row needs attempt_id, or upstream_id and day, or provider, model and day")
        summed.setdefault((row.day, row.provider, row.model), []).append(row)
    corrections = []
    for day in sorted({day for day, _, _ in summed}):
        at = _start(day)
        cells = await report(journal.store, tenant, at, at + 86_400, ("provider", "model"), now=at)
        booked = {cell.names: cell.numbers for cell in cells}
        for (of, provider, model), group in summed.items():
            if of != day:
                continue
            if (provider, model) not in booked:
                for row in group:
                    tally.unknown(row)
                continue
            numbers = booked[provider, model]
            billed = sum(row.cost_nano for row in group)
            usage = _usage(group) or numbers[USAGE]
            tally.found(day, provider, model, len(group), billed, numbers[COST])
            if billed == numbers[COST] and usage == numbers[USAGE]:
                tally.result.exact += 1
            else:
                differences = [0] * len(METRICS)
                differences[USAGE] = [a - b for a, b in zip(usage, numbers[USAGE], strict=True)]
                differences[COST] = billed - numbers[COST]
                corrections.append(_of_nobody(tenant, at, provider, model, tuple(differences), reason))
    return corrections


def _of_nobody(
    tenant: str, at: float, provider: str, model: str, differences: tuple[int, ...], reason: str
) -> Correction:
    """What only the bill's sum of a day tells, booked at the beginning of that day."""
    told = f"{provider}\0{model}\0{reason}\0{differences}".encode()
    aid = f"{int(at * 1000):012x}{hashlib.sha256(told).hexdigest()[:20]}"
    envelope = Envelope(
        *(aid, f"req_{aid}", at, tenant, "", "", (), "", None, model, provider, "", "", "", False, 0, 0, 0, ())
    )
    nothing = (0,) * len(METRICS)
    ending = Ending("P", 0, NO_USAGE, "provider", "complete", None, None, None, None, False)
    return Correction(Position(envelope, ending, nothing), differences, reason)


def _changed(position: Position, usage: tuple[int, ...] | None, cost_nano: int) -> tuple[int, ...]:
    """The position as the bill has it: exact, neither void nor without a price."""
    numbers = list(position.numbers)
    if usage is not None:
        numbers[USAGE] = usage
    numbers[COST] = cost_nano
    numbers[ESTIMATED] = numbers[UNPRICED] = 0
    if cost_nano:
        numbers[VOID] = 0
    return tuple(numbers)


def _usage(rows: list[BillRow]) -> tuple[int, ...] | None:
    told = [row.usage for row in rows if row.usage is not None]
    return tuple(map(sum, zip(*told, strict=True))) if told else None


def _is_attempt_id(text: str) -> bool:
    return len(text) == 32 and all(c in "0123456789abcdef" for c in text)


def _start(day: str) -> float:
    return datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()


def _day(at: float) -> str:
    return (datetime.fromtimestamp(0, UTC) + timedelta(seconds=at)).strftime("%Y-%m-%d")
