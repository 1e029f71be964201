"""Endings added up before they go to the store, which does everything else that it does between them.

Those of a batch are of a few keys and models, and most simply apply: the provider told the usage and no hold is freed.
Of these the store is told the sums, and each of the rest. Sums apply all together, where no attempt in them has ended
before, or not at all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

from gateway.ledger.account import whole
from gateway.ledger.records import ALIKE, Booking, Cells, cells_of, metrics_of


class Sums(NamedTuple):
    """What many endings come to, as finish.lua takes it, which adds up what is named twice. Money is nano-USD."""

    markers: list[tuple[int, list[str], list[str]]]
    """By hour of the attempt ids: ids, and what each is remembered by, `P:<nano>:`."""
    cells: list[tuple[str, str, str, tuple[str, ...], tuple[int, ...]]]
    """Hour and day of the roll-up, the cell's name, those of its tags, the sums of their metrics."""
    budgets: list[tuple[str, int, int, int]]
    """Counter, what is posted, limit, when it is forgotten."""
    rates: list[tuple[str, int, int]]
    """Bucket, limit, what is to be corrected."""
    slabs: list[tuple[str, int]]
    """Slab, what is taken from it."""
    text: bytes
    """The journal's lines; of attempts alike the first is whole and the others are brief (see `lines.py`)."""


def add_up(endings: list[Booking]) -> tuple[Sums | None, Sequence[int]]:
    """The sums of those that can be added up, and the indices of those that cannot."""
    if len({ending[0] for ending in endings}) < len(endings):  # an attempt ends twice here: the store looks at each
        return None, range(len(endings))
    alike: defaultdict[Booking, list[int]] = defaultdict(list)
    for index, ending in enumerate(endings):
        alike[ending[ALIKE:]].append(index)
    apart: list[int] = []
    markers: dict[int, tuple[list[str], list[str]]] = {}
    cells: list[tuple[str, str, str, tuple[str, ...], tuple[int, ...]]] = []
    budgets: list[tuple[str, int, int, int]] = []
    texts: list[bytes] = []
    rates: dict[tuple[str, int], int] = {}
    slabs: dict[str, int] = {}
    for (outcome, may_be_held, aid_hour, account, hours, flags, windows, *_), indices in alike.items():
        if outcome != "P" or may_be_held:  # not what the provider told, or it may hold something
            apart += indices
            continue
        of_each = zip(*[endings[index][:ALIKE] for index in indices], strict=True)
        aids, nanos, usages, lines, drawn_from, holds, corrections = of_each
        count, posted = len(aids), sum(nanos)
        marked = markers.setdefault(aid_hour, ([], []))
        marked[0].extend(aids)
        marked[1].extend([f"P:{nano}:" for nano in nanos])
        metrics = count, *map(sum, zip(*usages, strict=True)), posted, *[count * flag for flag in flags]
        cells.append((*cells_of(account, hours), metrics))
        budgets.extend([(w.counter, posted, w.limit_nano, w.forget_at) for w in windows])
        texts.append(b"N " + b"\nL ".join((whole(lines[0], account.sealed), *lines[1:])))
        for bucket, limit, amount in chain.from_iterable(corrections):
            rates[bucket, limit] = rates.get((bucket, limit), 0) + amount
        for slab, nano, hold in zip(drawn_from, nanos, holds, strict=True):
            if slab:
                slabs[slab] = slabs.get(slab, 0) + min(nano, hold)
    if not markers:
        return None, apart
    sums = Sums(
        [(hour, *marked) for hour, marked in markers.items()],
        cells,
        budgets,
        [(bucket, limit, amount) for (bucket, limit), amount in rates.items()],
        list(slabs.items()),
        b"\n".join(texts),
    )
    return sums, sorted(apart)


def alone(ending: Booking) -> tuple[Any, ...]:
    """One ending that is not added up, as finish.lua takes it."""
    aid, nano, usage, line, slab, hold, corrections, *common = ending
    outcome, may_be_held, aid_hour, account, hours, flags, windows, *orphan = common
    cells: Cells = ("", "", "", ())  # of a tombstone
    text, metrics = "", metrics_of(usage, nano, flags)
    if account is not None:
        cells = cells_of(account, hours)
        text = whole(line, account.sealed).decode()  # bytes are nothing to the MessagePack of Lua
    head = (aid, aid_hour, outcome, nano, may_be_held)
    return *head, cells, metrics, windows, corrections, text, slab, hold, *orphan
