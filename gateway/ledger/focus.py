"""A report as FOCUS rows (FinOps Open Cost and Usage Specification), for the tools of finance; pure.

Every column that FOCUS 1.2 demands is there, and those of its conditional ones that a gateway knows; columns of our own
begin with `x_`. Unit prices are left out: a row sums up tokens of several prices (input, cached, output), and its cost
is the exact sum, not a product.
Source: https://github.com/FinOps-Open-Cost-and-Usage-Spec/FOCUS_Spec, specification/columns (read 2026-11-21).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from gateway.ledger.records import DIMENSIONS, METRICS
from gateway.ledger.reports import NO_TAG, PERIODS, Row
from gateway.money import usd

DEFAULT_BY = ("day", *DIMENSIONS)
"""What FOCUS rows are by unless said otherwise: all that is known."""
_NEEDED = ("provider", "model")
_TOKENS = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output", "audio_in", "audio_out")
"""Disjoint buckets; reasoning is part of the output."""

_COUNTS = {name: "x_" + name.title().replace("_", "") for name in METRICS if name not in ("cost_nano", "rerated_nano")}
COSTS = ("BilledCost", "ContractedCost", "EffectiveCost", "ListCost")
COLUMNS = (
    *("BilledCost", "BillingAccountId", "BillingAccountName", "BillingAccountType", "BillingCurrency"),
    *("BillingPeriodEnd", "BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription"),
    *("ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart", "ConsumedQuantity", "ConsumedUnit"),
    *("ContractedCost", "EffectiveCost", "InvoiceIssuerName", "ListCost", "PricingCategory", "PricingQuantity"),
    *("PricingUnit", "ProviderName", "PublisherName", "ResourceId", "ResourceName", "ResourceType"),
    *("ServiceCategory", "ServiceName", "ServiceSubcategory", "SkuId", "SkuPriceId", "SubAccountId"),
    *("SubAccountName", "SubAccountType", "Tags", "x_KeyId", "x_KeyName", "x_Tier", "x_AsBookedCost"),
    *_COUNTS.values(),
)
NUMBERS = frozenset((*COSTS, "ConsumedQuantity", "PricingQuantity", "x_AsBookedCost", *_COUNTS.values()))


def grouping(by: Sequence[str] | None) -> list[str]:
    """What the report must be by, so that its rows can be told in FOCUS: a period, provider and model are needed."""
    names = list(by or DEFAULT_BY)
    if not any(name in PERIODS for name in names):
        names.insert(0, "day")
    return [*names, *(name for name in _NEEDED if name not in names)]


def focus_rows(
    rows: Iterable[Row], by: Sequence[str], tenant: str, key_names: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """The rows of a report that is by `grouping()`; what it is not by is null. Money is text, exact to the nano-dollar.

    Where it is by several periods, the shortest counts.
    """
    period = next(name for name in PERIODS if name in by)
    for row in rows:
        named = dict(zip(by, row.names, strict=True))
        numbers = dict(zip(METRICS, row.numbers, strict=True))
        cost, rerated = numbers.pop("cost_nano"), numbers.pop("rerated_nano")
        start, end = _bounds(period, named[period])
        month = _bounds("month", start.strftime(PERIODS["month"]))
        tokens = sum(numbers[name] for name in _TOKENS)
        tags = {name[4:]: value for name, value in named.items() if name.startswith("tag:") and value != NO_TAG}
        provider, model, price = named["provider"], named["model"], named.get("price_id") or None
        key, team, deployment = (named.get(name) or None for name in ("key", "team", "deployment"))
        yield {
            **dict.fromkeys(COLUMNS),
            **dict.fromkeys(COSTS, usd(cost)),
            "BillingAccountId": tenant,
            "BillingAccountName": tenant,
            "BillingAccountType": "Tenant",
            "BillingCurrency": "USD",
            "BillingPeriodStart": _time(month[0]),
            "BillingPeriodEnd": _time(month[1]),
            "ChargeCategory": "Usage",
            "ChargeDescription": f"{numbers['attempts']} calls of {model} at {deployment or provider}",
            "ChargeFrequency": "Usage-Based",
            "ChargePeriodStart": _time(start),
            "ChargePeriodEnd": _time(end),
            "ConsumedQuantity": f"{tokens}.0",
            "ConsumedUnit": "Tokens",
            "InvoiceIssuerName": provider,
            "PricingCategory": "Standard",
            "PricingQuantity": f"{tokens}.0",
            "PricingUnit": "Tokens",
            "ProviderName": provider,
            "PublisherName": provider,
            "ResourceId": deployment,
            "ResourceName": deployment,
            "ResourceType": "Deployment" if deployment else None,
            "ServiceCategory": "AI and Machine Learning",
            "ServiceName": model,
            "ServiceSubcategory": "Generative AI",
            "SkuId": model,
            "SkuPriceId": price,
            "SubAccountId": team,
            "SubAccountName": team,
            "SubAccountType": "Team" if team else None,
            "Tags": msgspec.json.encode(tags).decode() if tags else None,
            "x_KeyId": key,
            "x_KeyName": key_names.get(key) if key else None,
            "x_Tier": named.get("tier") or None,
            "x_AsBookedCost": usd(cost - rerated),
            **{_COUNTS[name]: n for name, n in numbers.items()},
        }


def _bounds(period: str, name: str) -> tuple[datetime, datetime]:
    """Start and end of a period by its name in a report."""
    start = datetime.strptime(name, PERIODS[period]).replace(tzinfo=UTC)
    if period == "month":
        return start, (start + timedelta(days=32)).replace(day=1)
    return start, start + (timedelta(hours=1) if period == "hour" else timedelta(days=1))


def _time(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
