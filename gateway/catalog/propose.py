"""The catalog's prices against public data sets: what differs, and the rows that would follow them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from gateway.catalog.pricedata import PriceData, Quote
from gateway.catalog.prices import rates_text
from gateway.catalog.schema import CatalogEntry
from gateway.catalog.snapshot import Snapshot
from gateway.types import Deployment

_ASKED = ("input", "output", "cache_read", "cache_write_5m", "audio_in", "audio_out")


@dataclass(frozen=True, slots=True)
class Proposal:
    """A deployment whose price in force is not what a data set says."""

    deployment: str
    differing: Mapping[str, tuple[str | None, Mapping[str, str]]]
    """Rate -> what the catalog says (None: nothing), and what each data set says, by its name."""
    agreed: Mapping[str, str] | None
    """The rates of a new row, where all data sets that know the deployment say the same; None where they disagree."""
    source: str


def propose(catalog: CatalogEntry, snapshot: Snapshot, data: Sequence[PriceData], now: float) -> Iterator[Proposal]:
    """What differs, deployment by deployment in the catalog's order. `now` in seconds since the epoch."""
    for deployment in snapshot.deployments.values():
        adapter = catalog.providers[deployment.provider.name].adapter
        quotes = {d.name: q for d in data if (q := d.quote(adapter, deployment.upstream_id)) is not None}
        if quotes and deployment.model.status == "enabled":
            found = _compare(deployment, quotes, now)
            if found is not None:
                yield found


def _compare(deployment: Deployment, quotes: Mapping[str, Quote], now: float) -> Proposal | None:
    price = deployment.price_at(now)
    ours = {} if price is None else rates_text(price.rates)
    cheaper = [] if price is None else [rates_text(window.rates) for window in price.off_peak]
    if all(any(_holds(rates, quote.usd_per_mtok) for rates in cheaper) for quote in quotes.values()):
        return None  # data sets have one of the day's prices as the price
    differing = {
        name: (ours.get(name), said)
        for name in _ASKED
        if (
            said := {source: quote.usd_per_mtok[name] for source, quote in quotes.items() if name in quote.usd_per_mtok}
        )
        and any(Decimal(value) != Decimal(ours.get(name, "-1")) for value in said.values())
    }
    if not differing:
        return None
    first, *others = quotes.values()
    agreed = all(_same(first.usd_per_mtok, other.usd_per_mtok) for other in others)
    return Proposal(
        deployment.name,
        differing,
        dict(first.usd_per_mtok) if agreed else None,
        ", ".join(q.source for q in quotes.values()),
    )


def _holds(ours: Mapping[str, str], theirs: Mapping[str, str]) -> bool:
    """Whether these are just the rates that a set knows."""
    return all(name in ours and Decimal(ours[name]) == Decimal(value) for name, value in theirs.items())


def _same(first: Mapping[str, str], second: Mapping[str, str]) -> bool:
    """Whether two sets say the same of what both know."""
    return all(Decimal(first[name]) == Decimal(second[name]) for name in first.keys() & second.keys())
