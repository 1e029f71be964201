"""What is not wrong with a catalog but will be: old prices, models past their end, tiers that nobody can serve."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from gateway.catalog.document import Document
from gateway.catalog.prices import PriceEntry
from gateway.catalog.problems import Path
from gateway.catalog.schema import CatalogEntry
from gateway.catalog.secrets import exposed
from gateway.catalog.snapshot import Snapshot
from gateway.types import Capability

STALE_AFTER = timedelta(days=90)
_NEEDED_OFTEN = (Capability.FUNCTION_CALLING, Capability.STRUCTURED_OUTPUT, Capability.STREAMING)


def find_warnings(document: Document, catalog: CatalogEntry, snapshot: Snapshot, now: float) -> tuple[str, ...]:
    """One line each, with file, line and place. `now` is in seconds since the epoch."""
    today = datetime.fromtimestamp(now, UTC)
    found = [*_providers(catalog, snapshot), *_models(catalog, today), *_tiers(snapshot), *_gaps(snapshot)]
    found += [*_dead_rules(catalog, snapshot)]
    return tuple(document.problem(path, message).at(document.file) for path, message in found)


def find_edited_prices(before: Snapshot, after: Snapshot, now: float) -> tuple[str, ...]:
    """One line for each price row that has been charged by and is no longer there as it was."""
    known = {price.price_id for deployment in after.deployments.values() for price in deployment.prices}
    gone = {
        price.price_id
        for name, deployment in before.deployments.items()
        if name in after.deployments
        for price in deployment.prices
        if price.from_at <= now and price.price_id not in known
    }
    return tuple(
        f"price {price_id} was edited or removed; what it charged stays as booked. Append a row in place of editing one"
        for price_id in sorted(gone)
    )


def _providers(catalog: CatalogEntry, snapshot: Snapshot) -> Iterator[tuple[Path, str]]:
    for name, entry in catalog.providers.items():
        path: Path = ("providers", name)
        if reason := exposed(entry.api_key):
            yield (*path, "api_key"), reason
        provider = snapshot.providers[name]
        if provider.api_key and provider.base_url.startswith("http://") and not provider.allow_private:
            yield (*path, "base_url"), "sends its key unencrypted; use https://"


def _models(catalog: CatalogEntry, now: datetime) -> Iterator[tuple[Path, str]]:
    for name, model in catalog.models.items():
        path: Path = ("models", name)
        if model.status != "enabled":
            continue
        if model.retires_on and model.retires_on <= now.date():
            fix = f"its callers should get {model.replacement}" if model.replacement else "name a replacement"
            yield (*path, "retires_on"), f"was switched off on {model.retires_on}; set status: retired ({fix})"
        if not model.deployments:
            yield path, "has no deployment, so nothing can serve it; add one"
        elif any(d.prices is None for d in model.deployments) and not any(r.starts <= now.date() for r in model.prices):
            yield path, "has no price in force, so callers with a budget are not routed to it; add prices"
        owned: list[tuple[Path, tuple[PriceEntry, ...]]] = [((*path, "prices"), model.prices)]
        owned += [
            ((*path, "deployments", index, "prices"), deployment.prices)
            for index, deployment in enumerate(model.deployments)
            if deployment.prices is not None
        ]
        for where, rows in owned:
            if rows:
                yield from _last_row((*where, len(rows) - 1), rows[-1], now)


def _last_row(path: Path, row: PriceEntry, now: datetime) -> Iterator[tuple[Path, str]]:
    if not row.source:
        yield path, "names no source, so nobody can check it; add source and checked"
    elif row.checked is None:
        yield path, "was never compared with its source; add checked"
    elif now.date() - row.checked > STALE_AFTER:
        yield (*path, "checked"), f"was last checked on {row.checked}, over {STALE_AFTER.days} days ago; check it again"


def _tiers(snapshot: Snapshot) -> Iterator[tuple[Path, str]]:
    for name, tier in snapshot.tiers.items():
        if any(d.provider.unavailable is None and d.model.status == "enabled" for d in tier.deployments):
            continue
        providers = {d.provider.name: d.provider.unavailable for d in tier.deployments if d.provider.unavailable}
        first, *others = [f"{provider}: {reason}" for provider, reason in providers.items()] or [""]
        more = f"; {len(others)} more" if others else ""
        why = f" ({first}{more})" if first else "" if tier.deployments else " (no model matches)"
        stand_in = ", ".join(d.name for d in tier.fallback)
        effect = f"answers come from {stand_in}" if stand_in else "every request to it fails"
        yield ("tiers", name), f"has no usable deployment now, so {effect}{why}"


def _gaps(snapshot: Snapshot) -> Iterator[tuple[Path, str]]:
    """Tiers with a fallback for most requests, but not for those that need what a single provider offers."""
    for name, tier in snapshot.tiers.items():
        providers = {d.provider.name for d in tier.deployments if d.model.status == "enabled"}
        for capability in _NEEDED_OFTEN:
            able = {
                d.provider.name
                for d in tier.deployments
                if d.model.status == "enabled" and d.capabilities & capability.bit
            }
            if len(providers) > 1 and len(able) == 1:
                alone = next(iter(able))
                yield ("tiers", name), f"has no fallback for {capability}: only {alone} offers it; add a model that can"


def _dead_rules(catalog: CatalogEntry, snapshot: Snapshot) -> Iterator[tuple[Path, str]]:
    """Rules that can have no effect, or none that was meant."""
    for alias, target in catalog.aliases.items():
        found = snapshot.targets[alias]
        if found.model is not None and found.model.status in ("disabled", "retired"):
            yield ("aliases", alias), f"stands for {target}, which is {found.model.status}; name another"
    for name, tier in catalog.tiers.items():
        path: Path = ("tiers", name)
        if tier.default is not None and (status := snapshot.models[tier.default].status) in ("disabled", "retired"):
            yield (*path, "default"), f"is {tier.default}, which is {status}; name another"
        seen: set[str] = set()
        for index, override in enumerate(tier.overrides):
            label = f"key {override.key}" if override.key else f"tag {override.tag}"
            if label in seen:
                yield (*path, "overrides", index), f"is never reached: an earlier one is for {label}, too; remove one"
            seen.add(label)
    for name, provider in catalog.providers.items():
        for category, default in provider.defaults.model_dump(exclude_none=True).items():
            if (status := snapshot.models[default].status) != "enabled":
                yield ("providers", name, "defaults", category), f"is {default}, which is {status}; name another"
