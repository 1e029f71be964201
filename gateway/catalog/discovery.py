"""What a provider's model list means for the catalog: which models are new, which have gone, what to suggest. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from adapters.base import Listed
from gateway.catalog import metadata
from gateway.catalog.models import ModelEntry
from gateway.catalog.pending import Pending
from gateway.catalog.pricedata import PriceData
from gateway.catalog.recognise import category_of, name_of, sort_of
from gateway.catalog.schema import CatalogEntry

MOST_PENDING = 2_000
"""New models that one list may bring; a hostile or broken list must not fill the store."""

_TOKEN = re.compile(r"[!-~]{1,512}")


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """A provider's model list, as it was found last."""

    provider: str
    asked_at: float
    """Seconds since the epoch."""
    listed_at: float | None = None
    """When it last answered with a list."""
    ids: Sequence[str] = ()
    vanished: Mapping[str, str] = {}
    """Models of the catalog that it listed once and lists no more -> the day (ISO) on which that was found."""
    error: str | None = None
    """Why the last asking brought no list."""
    curated: bool = False
    """Whether the list is one that is kept by hand; it is no evidence of what the provider listed once."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a list brought."""

    listing: Listing
    new: Sequence[Pending]
    dropped: Sequence[str]
    """Pending models (`provider/id`) that need no decision any longer: they are in the catalog, or gone again."""
    vanished: Sequence[str]
    """Models of the catalog that this list is the first to lack, by upstream id."""


def compare(
    provider: str,
    listed: Sequence[Listed],
    catalog: CatalogEntry,
    before: Listing | None,
    pending: Mapping[str, Pending],
    prices: Sequence[PriceData],
    now: float,
    *,
    curated: bool = False,
) -> Found:
    """The list against catalog and former list. `pending` are all that wait, by `provider/id`.

    A model has vanished only if a list of the same kind (kept by hand, `curated`, or the provider's own) had it before:
    some providers serve what they never list. An empty list is none, so callers treat it as a failure.
    """
    shown = {row.id: row for row in listed if _TOKEN.fullmatch(row.id)}
    known = {d.id for model in catalog.models.values() for d in model.deployments if d.provider == provider}
    today = f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d}"
    earlier = before or Listing(provider=provider, asked_at=now)
    once = {*earlier.ids, *earlier.vanished} if earlier.curated == curated else set()
    vanished = {i: earlier.vanished.get(i, today) for i in sorted(known & once) if i not in shown}
    waiting = {p.id for p in pending.values() if p.provider == provider}
    new = [i for i in shown if i not in known and i not in waiting][:MOST_PENDING]
    listing = Listing(
        provider=provider, asked_at=now, listed_at=now, ids=list(shown), vanished=vanished, curated=curated
    )
    return Found(
        listing,
        [suggest(provider, shown[i], catalog, prices, now) for i in new],
        [f"{provider}/{i}" for i in sorted(waiting) if i in known or i not in shown],
        [i for i in vanished if i not in earlier.vanished],
    )


def suggest(provider: str, row: Listed, catalog: CatalogEntry, prices: Sequence[PriceData], now: float) -> Pending:
    """A pending model with whatever the list, its relatives in the catalog and the price data tell of it."""
    sort, of = sort_of(row.id)
    name, category = name_of(row.id), category_of(row.id, row.metadata)
    relative_name, relative = _relative(catalog, name, of)
    sources: dict[str, str] = {}
    can = metadata.capabilities(row.metadata) if category == "text" else ()
    if can:
        sources["capabilities"] = f"{provider}'s model list, unverified"
    elif relative is not None:
        can = tuple(c.value for c in relative.capabilities)
        sources["capabilities"] = f"as {relative_name}, unverified"
    reads, writes = metadata.limits(row.metadata)
    if reads or writes:
        sources["limits"] = f"{provider}'s model list, unverified"
    elif relative is not None:
        reads, writes = relative.context.input_tokens, relative.context.output_tokens
        sources["limits"] = f"as {relative_name}, unverified"
    rates: Mapping[str, str] | None = metadata.usd_per_mtok(row.metadata)
    if rates is not None:
        sources["price"] = f"{provider}'s model list, unverified"
    else:
        adapter = catalog.providers[provider].adapter
        quotes = (q for data in prices for i in (row.id, of) if i and (q := data.quote(adapter, i)))
        if (quote := next(quotes, None)) is not None:
            rates, sources["price"] = quote.usd_per_mtok, quote.source
    display = row.metadata.get("display_name") or row.metadata.get("displayName") or row.metadata.get("name")
    return Pending(
        provider=provider,
        id=row.id,
        name=name,
        category=category,
        sort=sort,
        of=of,
        display_name=_line(display) if isinstance(display, str) else "",
        first_seen_at=now,
        capabilities=can,
        input_tokens=reads,
        output_tokens=writes,
        usd_per_mtok=rates,
        sources=sources,
    )


def _relative(catalog: CatalogEntry, name: str, of: str) -> tuple[str, ModelEntry | None]:
    """The model of the catalog that has this name, or that this is a snapshot, fine-tune or alias of."""
    for wanted in (name, name_of(of) if of else ""):
        if wanted in catalog.models:
            return wanted, catalog.models[wanted]
    for known, model in catalog.models.items():
        ids = {d.id for d in model.deployments}
        if of in ids or any(sort_of(i)[1] in (name, of) for i in ids if sort_of(i)[1]):
            return known, model
    return "", None


def _line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text[:200]).strip()
