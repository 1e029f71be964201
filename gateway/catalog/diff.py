"""What differs between two catalog documents, in sentences, with what it means for cost. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from gateway.catalog.models import DeploymentEntry, ModelEntry
from gateway.catalog.prices import compile_prices
from gateway.catalog.problems import printable
from gateway.catalog.schema import CatalogEntry
from gateway.ledger.cost import cost_nano
from gateway.money import usd
from gateway.types import Price, Usage

Traffic = Mapping[str, Mapping[str, int]]
"""Tokens by kind (the fields of `Usage`) that each deployment carried, by its name."""


def describe_changes(before: CatalogEntry, after: CatalogEntry, now: float, traffic: Traffic) -> list[str]:
    """One line a change, by section and name. `now` (seconds since the epoch) tells which prices are in force.

    `traffic` is what prices are weighed by, and the last line sums up what it would have cost by the new ones.
    """
    lines = [
        *_section("provider", _plain(before.providers), _plain(after.providers)),
        *_models(before, after, now),
        *_section("tier", _plain(before.tiers), _plain(after.tiers)),
        *_section("alias", dict(before.aliases), dict(after.aliases)),
        *_section("preset", _plain(before.presets), _plain(after.presets)),
    ]
    if before.default_tier != after.default_tier:
        lines.append(f"default tier: {_shown(before.default_tier)} -> {_shown(after.default_tier)}")
    return [*lines, *_impact(before, after, now, traffic)]


def _models(before: CatalogEntry, after: CatalogEntry, now: float) -> Iterator[str]:
    yield from _section("model", _plain(before.models, without="prices"), _plain(after.models, without="prices"))
    for name in before.models.keys() & after.models.keys():
        old, new = compile_prices(name, before.models[name].prices), compile_prices(name, after.models[name].prices)
        known = {price.price_id for price in old}
        kept = {price.price_id for price in new}
        for price in new:
            if price.price_id not in known:
                yield f"model {name}: price from {_day(price)}: {_rates(price)}{_against(_in_force(old, now), price)}"
        for price in old:
            if price.price_id not in kept:
                yield f"model {name}: price from {_day(price)} ({_rates(price)}) is gone; what it charged stays booked"


def _impact(before: CatalogEntry, after: CatalogEntry, now: float, traffic: Traffic) -> Iterator[str]:
    """What the traffic costs by the old and the new prices in force, where both are known."""
    old, new = _prices(before, now), _prices(after, now)
    total_old = total_new = 0
    for name in sorted(traffic):
        usage = Usage(**{field: traffic[name].get(field, 0) for field in Usage.__struct_fields__})
        was, would = old.get(name), new.get(name)
        if was is None or would is None:
            if was is not None:
                yield f"cost: {name} carried traffic and is gone or has no price"
            continue
        cost_old = cost_nano(usage, was, started_at=now)
        cost_new = cost_nano(usage, would, started_at=now)
        total_old, total_new = total_old + cost_old, total_new + cost_new
        if cost_old != cost_new:
            yield f"cost: {name}: the traffic looked at would cost ${usd(cost_new)} in place of ${usd(cost_old)}"
    if total_old != total_new:
        share = _share(total_old, total_new)
        yield f"cost: all traffic looked at: ${usd(total_new)} in place of ${usd(total_old)}{share}"


def _prices(catalog: CatalogEntry, now: float) -> dict[str, Price]:
    found: dict[str, Price] = {}
    for name, model in catalog.models.items():
        for deployment in model.deployments:
            rows = compile_prices(name, _rows(model, deployment))
            if (price := _in_force(rows, now)) is not None:
                suffix = f"#{deployment.suffix}" if deployment.suffix else ""
                found[f"{deployment.provider}/{name}{suffix}"] = price
    return found


def _rows(model: ModelEntry, deployment: DeploymentEntry) -> Any:
    return model.prices if deployment.prices is None else deployment.prices


def _in_force(prices: tuple[Price, ...], now: float) -> Price | None:
    return next((price for price in reversed(prices) if price.from_at <= now), None)


def _against(old: Price | None, new: Price) -> str:
    if old is None:
        return ""
    return f" (input{_share(old.rates.input, new.rates.input)}, output{_share(old.rates.output, new.rates.output)})"


def _share(old: int, new: int) -> str:
    """` +20.0 %`."""
    return f" {100 * (new - old) / old:+.1f} %" if old else ""


def _rates(price: Price) -> str:
    per_mtok = Usage(input=1_000_000), Usage(output=1_000_000)
    figures = [usd(cost_nano(usage, Price("", 0.0, price.rates), started_at=0.0)) for usage in per_mtok]
    return f"${figures[0]} in, ${figures[1]} out per million tokens"


def _day(price: Price) -> str:
    return price.price_id.rpartition("@")[2][:10]


def _section(what: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for name in [*before, *(name for name in after if name not in before)]:
        label = f"{what} {printable(name)}"
        if name not in after:
            yield f"{label}: removed"
        elif name not in before:
            yield f"{label}: added"
        elif before[name] != after[name]:
            yield from _fields(label, before[name], after[name])


def _fields(label: str, before: Any, after: Any) -> Iterator[str]:
    if not (isinstance(before, dict) and isinstance(after, dict)):
        yield f"{label}: {_shown(before)} -> {_shown(after)}"
        return
    for field in [*before, *(field for field in after if field not in before)]:
        old, new = before.get(field), after.get(field)
        if old != new:
            yield from _values(f"{label}: {field}", old, new)


def _values(label: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, list) and isinstance(new, list):
        added = [item for item in new if item not in old]
        removed = [item for item in old if item not in new]
        for word, items in (("added", added), ("removed", removed)):
            if items:
                yield f"{label}: {word} {', '.join(map(_shown, items))}"
        if not added and not removed:
            yield f"{label}: now in the order {', '.join(map(_shown, new))}"
    elif isinstance(old, dict) and isinstance(new, dict):
        for field in [*old, *(field for field in new if field not in old)]:
            if old.get(field) != new.get(field):
                yield from _values(f"{label}.{field}", old.get(field), new.get(field))
    else:
        yield f"{label}: {_shown(old)} -> {_shown(new)}"


def _plain(entries: Mapping[str, BaseModel], without: str = "") -> dict[str, dict[str, Any]]:
    """Entries as they are written, and with the defaults of what they leave out, so that both can be named."""
    found: dict[str, dict[str, Any]] = {}
    for name, entry in entries.items():
        whole = entry.model_dump(mode="json", by_alias=True, exclude={without} if without else None)
        found[name] = {
            **whole,
            **entry.model_dump(mode="json", by_alias=True, exclude_defaults=True, include=set(whole)),
        }
    return found


def _shown(value: Any) -> str:
    if value is None:
        return "(none)"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_shown(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_shown, value)) + "]"
    return printable(str(value).lower() if isinstance(value, bool) else str(value))
