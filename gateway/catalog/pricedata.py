"""Prices from public data sets: genai-prices, its `data.json` or the package, and litellm's model map. They propose;
nothing is applied.

Sources (read 2026-11-21): https://github.com/pydantic/genai-prices/tree/main/prices, `types.py` of the package 0.2.3,
https://github.com/BerriAI/litellm/blob/main/model_prices_and_context_window.json.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from adapters.base import NOT_JSON
from gateway.catalog.metadata import decimal_rate
from gateway.errors import CatalogError

_MOST_BYTES = 64 * 1024 * 1024
_GENAI = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write_5m",
    "input_audio_mtok": "audio_in",
    "output_audio_mtok": "audio_out",
}
_LITELLM = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cache_read",
    "cache_creation_input_token_cost": "cache_write_5m",
    "input_cost_per_audio_token": "audio_in",
    "output_cost_per_audio_token": "audio_out",
}
# Their names for providers, by the adapter that we speak to them with.
_PROVIDERS: Mapping[str, tuple[str, ...]] = {
    "gemini": ("google", "gemini"),
    "vertex": ("google", "vertex_ai-language-models"),
    "vertex_claude": ("anthropic", "vertex_ai-anthropic_models"),
    "bedrock": ("aws", "bedrock", "bedrock_converse"),
    "xai": ("x-ai", "xai"),
    "fireworks": ("fireworks", "fireworks_ai"),
    "together": ("together", "together_ai"),
}


@dataclass(frozen=True, slots=True)
class Quote:
    """What a data set says that a model costs."""

    usd_per_mtok: Mapping[str, str]
    source: str


@dataclass(frozen=True, slots=True)
class PriceData:
    """One data set."""

    name: str
    exact: Mapping[tuple[str, str], Mapping[str, str]]
    """(provider, model id) -> rates."""
    rules: Mapping[str, Sequence[tuple[Mapping[str, Any], Mapping[str, str]]]] = field(default_factory=dict)
    """Provider -> rules that say which ids they are for, with rates, in the order to try them."""

    def quote(self, adapter: str, upstream_id: str) -> Quote | None:
        """The price of a model at the provider that an adapter speaks to; None where the set does not know it."""
        for provider in (adapter, *_PROVIDERS.get(adapter, ())):
            rates = self.exact.get((provider, upstream_id))
            if rates is None:
                fitting = (rates for rule, rates in self.rules.get(provider, ()) if _fits(rule, upstream_id))
                rates = next(fitting, None)
            if rates is not None:
                return Quote(rates, f"{self.name}, unverified")
        return None


def read_price_data(path: Path, now: float) -> PriceData:
    """A data set from its JSON file; which of the two it is shows by its form. `now` (seconds since the epoch) chooses
    among prices with a date.

    Raises:
        CatalogError: the file cannot be read, or is neither.
    """
    try:
        with path.open("rb") as file:
            data = msgspec.json.decode(file.read(_MOST_BYTES))
    except OSError as error:
        raise CatalogError(f"price data {path} cannot be read: {error.strerror}") from None
    except NOT_JSON:
        raise CatalogError(f"price data {path} is not JSON") from None
    found = _genai(data, _day(now)) if isinstance(data, list) else _litellm(data) if isinstance(data, dict) else None
    if found is None or not found.exact:
        raise CatalogError(f"price data {path} is neither genai-prices' data.json nor litellm's model map")
    return found


def installed_price_data(now: float) -> PriceData:
    """The data set that the package genai-prices brings along, where that is installed.

    Raises:
        CatalogError: it is not, or has another form by now.
    """
    try:
        providers = importlib.import_module("genai_prices.data").providers
        version = importlib.metadata.version("genai-prices")
    except ImportError:
        raise CatalogError("the package genai-prices is not installed: pip install 'tiergate[prices]'") from None
    except AttributeError:
        providers, version = None, "of this version"
    found = _genai(_plain(providers), _day(now), f"genai-prices {version}") if isinstance(providers, list) else None
    if found is None or not found.exact:
        raise CatalogError(f"the package genai-prices {version} holds no prices where they are looked for")
    return found


def _plain(value: Any) -> Any:
    """The package's objects as its JSON has them."""
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, Decimal | date):
        return str(value)
    if value is None or isinstance(value, str | int | float):
        return value
    fields = getattr(value, "__dict__", {})
    return {name.rstrip("_"): _plain(inner) for name, inner in fields.items() if name[:1] != "_" and inner is not None}


def _day(now: float) -> str:
    return f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d}"


def _genai(data: list[Any], today: str, name: str = "genai-prices") -> PriceData:
    exact: dict[tuple[str, str], Mapping[str, str]] = {}
    rules: dict[str, list[tuple[Mapping[str, Any], Mapping[str, str]]]] = {}
    for provider, model in _models(data):
        rates = _rates(_current(model.get("prices"), today), _GENAI, 1)
        if rates is not None:
            exact[provider, str(model.get("id"))] = rates
            if isinstance(model.get("match"), dict):
                rules.setdefault(provider, []).append((model["match"], rates))
    return PriceData(name, exact, rules)


def _models(data: list[Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for provider in data:
        if isinstance(provider, dict) and isinstance(provider.get("models"), list):
            yield from ((str(provider.get("id")), m) for m in provider["models"] if isinstance(m, dict))


def _current(prices: Any, today: str) -> Mapping[str, Any]:
    """The last row without a condition or whose day has come, else the first; hours of the day are passed over."""
    if isinstance(prices, dict):
        return prices
    rows = [row for row in prices if isinstance(row, dict)] if isinstance(prices, list) else []
    holding = [row for row in rows if _holds(row.get("constraint"), today)] or rows[:1]
    found = holding[-1].get("prices") if holding else None
    return found if isinstance(found, dict) else {}


def _holds(condition: Any, today: str) -> bool:
    if not condition:
        return True
    begins = condition.get("start_date") if isinstance(condition, dict) else None
    return isinstance(begins, str) and begins <= today


def _litellm(data: Mapping[str, Any]) -> PriceData:
    exact: dict[tuple[str, str], Mapping[str, str]] = {}
    for name, model in data.items():
        if isinstance(model, dict) and isinstance(provider := model.get("litellm_provider"), str):
            rates = _rates(model, _LITELLM, 1_000_000)
            if rates is not None:
                exact[provider, name.removeprefix(f"{provider}/")] = rates
    return PriceData("litellm", exact)


def _rates(figures: Mapping[str, Any], names: Mapping[str, str], factor: int) -> Mapping[str, str] | None:
    """Our rates from theirs; of a rate by length of prompt, what short prompts cost."""
    found: dict[str, str] = {}
    for theirs, ours in names.items():
        value = figures.get(theirs)
        rate = decimal_rate(value.get("base") if isinstance(value, dict) else value, factor)
        if rate is not None:
            found[ours] = rate
    return found if {"input", "output"} <= found.keys() else None


def _fits(rule: Mapping[str, Any], text: str, depth: int = 0) -> bool:
    """Whether a rule of genai-prices is for this id. Its regular expressions are passed over: they could run on."""
    for word, value in rule.items():
        if word in ("or", "and") and isinstance(value, list) and depth < 8:
            fits = [_fits(inner, text, depth + 1) for inner in value if isinstance(inner, dict)]
            return any(fits) if word == "or" else bool(fits) and all(fits)
        if isinstance(value, str):
            if word == "equals":
                return text == value
            if word == "starts_with":
                return text.startswith(value)
            if word == "ends_with":
                return text.endswith(value)
            if word == "contains":
                return value in text
    return False
