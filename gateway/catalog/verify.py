"""Whether a provider takes our key, found out without spending anything."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from adapters import ADAPTERS
from gateway.catalog.source import CatalogSource
from gateway.errors import Kind, UpstreamError
from gateway.log import get_logger
from gateway.types import Endpoint, Provider, Timeouts
from gateway.upstream.client import Upstream

ASKING = Timeouts(pool_s=5.0, connect_s=5.0, first_byte_s=20.0, idle_s=20.0, total_s=60.0)
"""Patience with model lists and key checks."""
_AGAIN_S = 60.0
_UNCHECKED = "its key is being checked (verify: true)"
_LEAST_BODY = b"{}"
"""A request that every chat API refuses: with 400 or so where the key is known, with 401 or 403 where it is not."""

_log = get_logger("catalog")


@dataclass(frozen=True, slots=True)
class KeyVerdict:
    """What a provider made of our key."""

    state: Literal["good", "refused", "unknown"]
    """`unknown`: it could not be reached, or did not say."""
    reason: str = ""


async def check_key(upstream: Upstream, provider: Provider, upstream_id: str) -> KeyVerdict:
    """Asks for the model list, then sends an empty chat request: some gateways list models to everybody.

    `upstream_id` is any model of the provider; neither request makes an answer that is charged.
    """
    adapter = ADAPTERS[provider.adapter]
    try:
        probes = [(adapter.models_endpoint(provider), b""), (_chat(provider, upstream_id), _LEAST_BODY)]
    except ValueError as error:
        return KeyVerdict("unknown", str(error))
    for endpoint, body in probes:
        if endpoint is None:
            continue
        try:
            response = await upstream.send(endpoint, body, ASKING)
            try:
                text = await response.read()
            finally:
                response.finish()
        except UpstreamError as error:
            return KeyVerdict("unknown", f"it could not be asked: {error.message}")
        if response.status == 200:
            continue
        problem = adapter.error(response.status, response.headers, text)
        if problem.kind is Kind.OUR_KEY_REFUSED or response.status in (401, 403):
            return KeyVerdict("refused", f"it refused our key with status {response.status}")
        if response.status >= 500:
            return KeyVerdict("unknown", f"it answered with status {response.status}")
    return KeyVerdict("good")


def _chat(provider: Provider, upstream_id: str) -> Endpoint:
    return ADAPTERS[provider.adapter].endpoint(provider, upstream_id, stream=False)


class KeyChecks:
    """The keys of the providers that ask for it (`verify: true`), checked by this process in the background."""

    def __init__(self, upstream: Upstream, monotonic: Callable[[], float]) -> None:
        self._upstream = upstream
        self._monotonic = monotonic
        self._verdicts: dict[str, tuple[KeyVerdict, float]] = {}
        """By provider, address and key: the verdict, and when it was given."""

    def unusable(self, source: CatalogSource) -> Mapping[str, str]:
        """The providers that may not be offered yet, each with the reason."""
        found: dict[str, str] = {}
        for name, provider in self._concerned(source).items():
            verdict, _ = self._verdicts.get(_mark(provider), (None, 0.0))
            if verdict is None:
                found[name] = _UNCHECKED
            elif verdict.state != "good":
                found[name] = f"its key is not verified: {verdict.reason}"
        return found

    async def check_due(self, source: CatalogSource) -> None:
        """Checks keys that never were, and those that were not good a minute ago, all providers at once."""
        now = self._monotonic()
        due = {}
        for name, provider in self._concerned(source).items():
            verdict, at = self._verdicts.get(_mark(provider), (None, 0.0))
            if verdict is None or (verdict.state != "good" and now - at >= _AGAIN_S):
                due[name] = provider
        await asyncio.gather(*(self._check(source, provider) for provider in due.values()))

    def _concerned(self, source: CatalogSource) -> dict[str, Provider]:
        snapshot = source.current
        return {
            name: provider
            for name, entry in source.entries.providers.items()
            if entry.verify and (provider := snapshot.providers.get(name)) is not None and provider.api_key is not None
        }

    async def _check(self, source: CatalogSource, provider: Provider) -> None:
        served = (d.upstream_id for d in source.current.deployments.values() if d.provider.name == provider.name)
        verdict = await check_key(self._upstream, provider, next(served, "none"))
        self._verdicts[_mark(provider)] = verdict, self._monotonic()
        if verdict.state == "good":
            _log.info("provider_key_verified", provider=provider.name)
        else:
            _log.warning("provider_key_not_verified", provider=provider.name, reason=verdict.reason)


def _mark(provider: Provider) -> str:
    """Tells one key at one address from another without keeping it."""
    key = provider.api_key.reveal() if provider.api_key else ""
    return hashlib.sha256(f"{provider.name}\0{provider.base_url}\0{key}".encode()).hexdigest()
