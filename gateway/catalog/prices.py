"""Dated prices: as the document writes them (decimal USD), and as the ledger charges them (integer pico-USD)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from gateway.catalog.entry import Entry
from gateway.types import Cliff, OffPeak, Price, Rates

Usd = Annotated[Decimal, Field(ge=0, le=1_000_000, allow_inf_nan=False), AfterValidator(Decimal.normalize)]
UsdPerMtok = Annotated[Usd, Field(decimal_places=6, examples=["1.25", "0.0375"])]
UsdPerUnit = Annotated[Usd, Field(decimal_places=12, examples=["0.04"])]
UtcWindow = Annotated[str, StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$")]

_PICO_PER_USD_PER_MTOK = 10**6
_PICO_PER_USD = 10**12


class UsdPerMtokEntry(Entry):
    """US dollars per million tokens, as quoted decimals with at most 6 places."""

    input: UsdPerMtok
    """Uncached prompt tokens."""
    output: UsdPerMtok
    """Generated tokens, reasoning included unless `reasoning` prices it apart."""
    cache_read: UsdPerMtok | None = None
    """Prompt tokens read from the provider's cache. Default: as `input`."""
    cache_write_5m: UsdPerMtok | None = None
    """Prompt tokens written to a cache of five minutes, or of no stated life. Default: as `input`."""
    cache_write_1h: UsdPerMtok | None = None
    """Prompt tokens written to a cache that lives an hour. Default: as `input`."""
    reasoning: UsdPerMtok | None = None
    """Tokens spent on reasoning. Default: as `output`."""
    audio_in: UsdPerMtok | None = None
    """Audio tokens of the prompt. Default: as `input`."""
    audio_out: UsdPerMtok | None = None
    """Generated audio tokens. Default: as `output`."""


class CliffEntry(Entry):
    """Rates of long prompts: they hold for the whole request, and stand alone (nothing is inherited from the row)."""

    tokens: Annotated[int, Field(gt=0)]
    """The rates apply once the prompt, cached part included, is longer than this."""
    usd_per_mtok: UsdPerMtokEntry
    """The rates."""


class ServiceTierEntry(Entry):
    """Rates of a service tier; they stand alone (nothing is inherited from the row)."""

    usd_per_mtok: UsdPerMtokEntry
    """The rates."""
    above: tuple[CliffEntry, ...] = ()
    """Rates of long prompts within this service tier."""


class OffPeakEntry(Entry):
    """Rates of some hours of the day; they stand alone (nothing is inherited from the row)."""

    utc: UtcWindow
    """`HH:MM-HH:MM` in UTC, the end not included; may pass midnight. A request counts by its start."""
    usd_per_mtok: UsdPerMtokEntry
    """The rates."""


class PriceEntry(Entry):
    """One dated price. When a price changes, append a row; never edit one that has been charged by."""

    starts: date = Field(alias="from")
    """First day (UTC) on which the row is in force; it stays so until the next row."""
    usd_per_mtok: UsdPerMtokEntry
    """What tokens cost."""
    per_image: UsdPerUnit | None = None
    """US dollars for each generated image, beside its tokens."""
    per_character: UsdPerUnit | None = None
    """US dollars for each character spoken."""
    above: tuple[CliffEntry, ...] = ()
    """Rates of long prompts, by ascending `tokens`."""
    service_tiers: dict[str, ServiceTierEntry] = Field(default_factory=dict)
    """Rates by the service tier that the answer names, e.g. `flex`, `priority`, `batch`."""
    off_peak: tuple[OffPeakEntry, ...] = ()
    """Rates of some hours of the day."""
    source: Annotated[str, StringConstraints(max_length=1000)] = ""
    """Where the figures stand: a page's address, or a data set and its version."""
    checked: date | None = None
    """When they were last compared with the source. None, or more than 90 days ago, is warned of."""


def compile_prices(owner: str, rows: Sequence[PriceEntry]) -> tuple[Price, ...]:
    """The rows in integers, ascending by date. `owner` (a model or deployment) goes into each row's id."""
    return tuple(_price(owner, row) for row in sorted(rows, key=lambda row: row.starts))


def rates_text(rates: Rates) -> dict[str, str]:
    """What tokens cost as the document writes it, in US dollars per million."""
    given = ((name, getattr(rates, name)) for name in UsdPerMtokEntry.model_fields)
    return {
        name: f"{(Decimal(pico) / _PICO_PER_USD_PER_MTOK).normalize():f}" for name, pico in given if pico is not None
    }


def _price(owner: str, row: PriceEntry) -> Price:
    figures = row.model_dump_json(exclude={"source", "checked"}, exclude_defaults=True)
    price_id = f"{owner}@{row.starts.isoformat()}.{hashlib.sha256(figures.encode()).hexdigest()[:6]}"
    starts = datetime(row.starts.year, row.starts.month, row.starts.day, tzinfo=UTC).timestamp()

    def rates(entry: UsdPerMtokEntry) -> Rates:
        pico = {name: int(usd * _PICO_PER_USD_PER_MTOK) for name, usd in entry if usd is not None}
        return Rates(**pico, image=_per_unit(row.per_image), character=_per_unit(row.per_character))

    def cliffs(entries: Sequence[CliffEntry]) -> tuple[Cliff, ...]:
        return tuple(Cliff(entry.tokens, rates(entry.usd_per_mtok)) for entry in entries)

    return Price(
        price_id=price_id,
        from_at=starts,
        rates=rates(row.usd_per_mtok),
        cliffs=cliffs(row.above),
        service_tiers={
            name: Price(f"{price_id}:{name}", starts, rates(tier.usd_per_mtok), cliffs(tier.above))
            for name, tier in row.service_tiers.items()
        },
        off_peak=tuple(OffPeak(*_minutes(window.utc), rates(window.usd_per_mtok)) for window in row.off_peak),
        source=row.source,
        checked=row.checked.isoformat() if row.checked else "",
    )


def _per_unit(usd: Decimal | None) -> int | None:
    return None if usd is None else int(usd * _PICO_PER_USD)


def _minutes(window: str) -> tuple[int, int]:
    """`16:30-00:30` as minutes since midnight."""
    start, end = (int(clock[:2]) * 60 + int(clock[3:]) for clock in window.split("-"))
    return start, end
