"""Asking the providers what they offer: all at once, each at most every five minutes, one failure hiding no other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
from redis.exceptions import RedisError

from adapters import ADAPTERS
from adapters.base import Listed
from adapters.curated import AS_OF, CURATED
from gateway.catalog.discovery import Found, Listing, compare
from gateway.catalog.findings import Findings
from gateway.catalog.pricedata import PriceData, read_price_data
from gateway.catalog.source import CatalogSource
from gateway.catalog.verify import ASKING
from gateway.errors import CatalogError, UpstreamError
from gateway.log import get_logger
from gateway.types import Provider
from gateway.upstream.client import Upstream

LEAST_S = 300.0
"""Between two askings of a provider, unless forced."""

_log = get_logger("catalog")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What asking one provider brought."""

    provider: str
    state: Literal["refreshed", "fresh", "failed", "unavailable", "under_way"]
    detail: str = ""
    """Why there is no new list, or how old the one there is."""
    listed: int = 0
    new: Sequence[str] = ()
    """Models that now wait for a decision, as `provider/id`."""
    vanished: Sequence[str] = ()
    """Models of the catalog that are listed no longer, as `provider/id`."""


OnVanished = Callable[[str, Sequence[str]], Awaitable[None]]
"""Told of a provider and the upstream ids that it has stopped listing."""


class Discovery:
    """Asks providers for their model lists. Methods may raise `redis.exceptions.RedisError`."""

    def __init__(
        self,
        source: CatalogSource,
        upstream: Upstream,
        findings: Findings,
        clock: Callable[[], float],
        *,
        price_data: Path | None,
        on_vanished: OnVanished,
    ) -> None:
        """`clock` gives seconds since the epoch; `price_data` is a data set from which prices are suggested."""
        self._source = source
        self._upstream = upstream
        self._findings = findings
        self._clock = clock
        self._price_data = price_data
        self._on_vanished = on_vanished

    async def refresh(self, provider: str | None = None, *, force: bool = False) -> list[Outcome]:
        """Asks one provider or all of them, and remembers what they say."""
        return await self._all([provider] if provider is not None else list(self._source.current.providers), force)

    async def _all(self, names: Sequence[str], force: bool) -> list[Outcome]:
        providers = self._source.current.providers
        prices = await asyncio.to_thread(self._prices)
        return list(await asyncio.gather(*(self._one(providers[name], prices, force) for name in names)))

    async def refresh_due(self, every_s: float) -> None:
        """Refreshes each provider whose list is older than `every_s`. One replica asks for all."""
        try:
            listings = await self._findings.listings()
            now = self._clock()
            due = [
                name
                for name, provider in self._source.current.providers.items()
                if provider.unavailable is None and (name not in listings or now - listings[name].asked_at >= every_s)
            ]
            await self._all(due, force=False)
        except (RedisError, OSError) as error:  # the next round tries again
            _log.warning("catalog_discovery_failed", error=type(error).__name__)

    def _prices(self) -> list[PriceData]:
        if self._price_data is None:
            return []
        try:
            return [read_price_data(self._price_data, self._clock())]
        except CatalogError as error:
            _log.warning("catalog_price_data_unusable", detail=str(error))
            return []

    async def _one(self, provider: Provider, prices: Sequence[PriceData], force: bool) -> Outcome:
        name = provider.name
        if provider.unavailable is not None:
            return Outcome(provider=name, state="unavailable", detail=provider.unavailable)
        if not ADAPTERS[provider.adapter].model_lists(provider) and provider.adapter not in CURATED:
            return Outcome(provider=name, state="unavailable", detail="it has no model list; add its models by hand")
        before = (await self._findings.listings()).get(name)
        age_s = self._clock() - before.asked_at if before else LEAST_S
        if before is not None and age_s < LEAST_S and not force:
            detail = f"refreshed {ago(age_s)}" if before.error is None else f"failed {ago(age_s)}: {before.error}"
            return Outcome(provider=name, state="fresh", detail=detail, listed=len(before.ids))
        if not await self._findings.claim(name):
            return Outcome(provider=name, state="under_way", detail="another replica is asking it now")
        try:
            return await self._ask(provider, before, prices)
        finally:
            await self._findings.release(name)

    async def _ask(self, provider: Provider, before: Listing | None, prices: Sequence[PriceData]) -> Outcome:
        name, now = provider.name, self._clock()
        try:
            listed, by_hand = await self._list(provider, before)
            if not listed:
                raise CatalogError("its list is empty")
        except Exception as error:
            if isinstance(error, UpstreamError):
                reason = error.message
            elif isinstance(error, CatalogError | ValueError):
                reason = str(error)
            else:  # an adapter's fault, and of no concern to other providers
                reason = f"it could not be asked ({type(error).__name__})"
                _log.exception("catalog_list_broke", provider=name)
            kept = before or Listing(provider=name, asked_at=now)
            await self._findings.note(msgspec.structs.replace(kept, asked_at=now, error=reason))
            _log.warning("catalog_list_failed", provider=name, reason=reason)
            return Outcome(provider=name, state="failed", detail=reason)
        waiting = await self._findings.pending()
        entries, curated = self._source.entries, bool(by_hand)
        found: Found = await asyncio.to_thread(
            compare, name, listed, entries, before, waiting, prices, now, curated=curated
        )
        await self._findings.keep(found)
        if found.vanished:
            await self._on_vanished(name, found.vanished)
        new = [pending.key for pending in found.new]
        _log.info("catalog_listed", provider=name, listed=len(listed), new=len(new), vanished=len(found.vanished))
        gone = [f"{name}/{upstream_id}" for upstream_id in found.listing.vanished]
        return Outcome(provider=name, state="refreshed", detail=by_hand, listed=len(listed), new=new, vanished=gone)

    async def _list(self, provider: Provider, before: Listing | None) -> tuple[Sequence[Listed], str]:
        """The provider's models, and why they are those of a list kept by hand (empty where they are its own)."""
        adapter = ADAPTERS[provider.adapter]
        by_hand = CURATED.get(provider.adapter, ())
        endpoints = adapter.model_lists(provider)
        if not endpoints:
            return by_hand, f"list of {AS_OF} kept by hand"
        listed: dict[str, Listed] = {}
        for endpoint in endpoints:
            answer = await self._upstream.get(endpoint, ASKING)
            if answer.status == 403 and by_hand and (before is None or before.listed_at is None or before.curated):
                return by_hand, f"list of {AS_OF} kept by hand: our key may not ask for the provider's"
            if answer.status != 200:
                problem = adapter.error(answer.status, answer.headers, answer.body)
                raise CatalogError(f"{problem.message.rstrip('.')} (status {answer.status})")
            listed |= {row.id: row for row in adapter.models(answer.body)}
        return list(listed.values()), ""


def ago(seconds: float) -> str:
    """`3 min ago`."""
    return "just now" if seconds < 60 else f"{int(seconds // 60)} min ago"


def described(outcome: Outcome) -> dict[str, Any]:
    """The outcome as JSON has it."""
    return {
        "provider": outcome.provider,
        "state": outcome.state,
        "detail": outcome.detail,
        "listed": outcome.listed,
        "new": list(outcome.new),
        "vanished": list(outcome.vanished),
    }
