"""From the checked document to the snapshot: secrets resolved, endpoints and prices made, every name looked up once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import TypeVar

import msgspec

from adapters import ADAPTERS
from gateway.catalog.addresses import check_base_url
from gateway.catalog.document import Document
from gateway.catalog.learned import Learned
from gateway.catalog.models import DeploymentEntry, ModelEntry
from gateway.catalog.nearest import Nearest
from gateway.catalog.overlay import all_vanished, stand_ins
from gateway.catalog.pending import model_entry
from gateway.catalog.prices import compile_prices
from gateway.catalog.problems import InvalidCatalog, Path, Problem
from gateway.catalog.providers import ProviderEntry, TimeoutsEntry
from gateway.catalog.schema import CatalogEntry
from gateway.catalog.secrets import SecretMissing, resolve_reference, secret_files, stamps
from gateway.catalog.snapshot import Snapshot, Target
from gateway.catalog.targets import compile_targets, preview
from gateway.catalog.tiers import TierEntry
from gateway.types import (
    Capability,
    Deployment,
    Endpoint,
    Model,
    OnCallerLeft,
    Override,
    Price,
    Provider,
    Secret,
    Tier,
    Timeouts,
    mask_of,
)
from policies import compile_chain

V = TypeVar("V")

LARGE_CONTEXT_TOKENS = 100_000
EXTRA_LARGE_CONTEXT_TOKENS = 1_000_000


def compile_catalog(
    document: Document, catalog: CatalogEntry, version: str, env: Mapping[str, str], learned: Learned
) -> Snapshot:
    """The snapshot of a document whose references are known to be whole. Warnings are not in it yet.

    Raises:
        InvalidCatalog: an address from the environment or an adapter's options cannot be used.
    """
    files = stamps(secret_files(provider.api_key for provider in catalog.providers.values()))  # before they are read
    compiler = _Compiler(document, catalog, env, learned)
    providers = {name: compiler.provider(name, entry) for name, entry in catalog.providers.items()}
    models = {name: _model(name, entry) for name, entry in catalog.models.items()}
    gone = stand_ins(catalog, models, providers, learned)
    models |= {
        name: replace(models[name], status="retired", deprecated_at=models[name].deprecated_at or _midnight(since))
        for name, (_, since) in gone.items()
    }
    served: dict[str, tuple[Deployment, ...]] = {}
    for name, entry in catalog.models.items():
        prices = compile_prices(name, entry.prices)
        served[name] = tuple(
            compiler.deployment(
                ("models", name, "deployments", index), (entry, listed), models[name], prices, providers
            )
            for index, listed in enumerate(entry.deployments)
            if name in gone or (listed.provider, listed.id) not in learned.vanished or all_vanished(entry, learned)
        )
    if compiler.problems:
        raise InvalidCatalog(document.file, compiler.problems)
    in_place = {name: found.name for name, (found, _) in gone.items()}
    tiers = {name: _tier(name, entry, models, served, in_place) for name, entry in catalog.tiers.items()}
    notes = _reasons(catalog) | {
        name: f"its provider lists it no longer (since {since})" for name, (_, since) in gone.items()
    }
    named = {(listed.provider, listed.id) for entry in catalog.models.values() for listed in entry.deployments}
    targets = compile_targets(models, served, tiers, catalog.aliases, notes)
    return Snapshot(
        version=version,
        providers=providers,
        models=models,
        deployments={deployment.name: deployment for group in served.values() for deployment in group},
        tiers=tiers,
        targets=targets,
        presets={name: params.merged() for name, params in catalog.presets.items()},
        default_tier=catalog.default_tier,
        secret_files=files,
        previews=_previews(compiler, providers, learned),
        vanished={place: day for place, day in learned.vanished.items() if place in named},
        names=Nearest(targets),
    )


def _previews(compiler: _Compiler, providers: Mapping[str, Provider], learned: Learned) -> dict[str, Target]:
    """Targets of the pending models whose provider there is, by `provider/id`."""
    found: dict[str, Target] = {}
    for key, pending in learned.pending.items():
        if pending.provider in providers and not pending.rejected:
            entry = ModelEntry.model_validate_json(msgspec.json.encode(model_entry(pending, "1970-01-01")))
            model = _model(pending.name, entry)
            prices = compile_prices(key, entry.prices)
            deployment = compiler.deployment((), (entry, entry.deployments[0]), model, prices, providers)
            found[key] = preview(key, replace(deployment, name=key))
    return found


class _Compiler:
    """What may fail: whatever touches the environment or an adapter. Collects every problem."""

    def __init__(self, document: Document, catalog: CatalogEntry, env: Mapping[str, str], learned: Learned) -> None:
        self._document = document
        self._catalog = catalog
        self._env = env
        self._learned = learned
        self.problems: list[Problem] = []

    def provider(self, name: str, entry: ProviderEntry) -> Provider:
        adapter = ADAPTERS[entry.adapter]
        base_url, no_address = self._base_url(name, entry)
        api_key, no_key = self._api_key(entry, needed=adapter.needs_key and entry.base_url is None)
        options, no_option = self._options(entry)
        return Provider(
            name=name,
            adapter=entry.adapter,
            base_url=base_url or adapter.default_base_url or "",
            api_key=api_key,
            unavailable=no_address or no_key or no_option or self._learned.unusable.get(name),
            timeouts=_timeouts(entry.timeouts),
            slow_ttft_s=entry.slow_ttft_s,
            retries=entry.retries,
            breaker=not adapter.steerable if entry.breaker is None else entry.breaker,
            allow_private=entry.allow_private,
            ca_file=entry.ca_file,
            client_cert=entry.client_cert,
            defaults=entry.defaults.model_dump(exclude_none=True),
            params=entry.params.merged(),
            options=options,
            headers=entry.headers,
            concurrency=entry.concurrency,
        )

    def _base_url(self, name: str, entry: ProviderEntry) -> tuple[str | None, str | None]:
        """The address that the document gives, and why there is none where the environment should have given it."""
        if entry.base_url is None or not entry.base_url.startswith("env:"):
            return entry.base_url, None
        try:
            url = resolve_reference(entry.base_url, self._env).reveal()
        except SecretMissing as missing:
            return None, f"no address: {missing}"
        try:
            return check_base_url(url, allow_private=entry.allow_private), None
        except ValueError as error:
            message = f"the address in {entry.base_url} {error}"
            self.problems.append(self._document.problem(("providers", name, "base_url"), message))
            return None, f"no address: {message}"

    def _api_key(self, entry: ProviderEntry, *, needed: bool) -> tuple[Secret | None, str | None]:
        if entry.api_key is None:
            return None, "no key: add api_key to the provider" if needed else None
        try:
            return resolve_reference(entry.api_key, self._env), None
        except SecretMissing as missing:
            return None, f"no key: {missing}"

    def _options(self, entry: ProviderEntry) -> tuple[dict[str, str], str | None]:
        options = dict(entry.options)
        for name, value in entry.options.items():
            if value.startswith("env:"):
                try:
                    options[name] = resolve_reference(value, self._env).reveal()
                except SecretMissing as missing:
                    return options, f"no {name}: {missing}"
        return options, None

    def deployment(
        self,
        path: Path,
        written: tuple[ModelEntry, DeploymentEntry],
        model: Model,
        prices: tuple[Price, ...],
        providers: Mapping[str, Provider],
    ) -> Deployment:
        """The deployment that is `written` at `path`; `prices` are the model's."""
        model_entry, entry = written
        provider, provider_entry = providers[entry.provider], self._catalog.providers[entry.provider]
        name = f"{provider.name}/{model.name}" + (f"#{entry.suffix}" if entry.suffix else "")
        layers = (provider_entry, model_entry, entry)
        return Deployment(
            name=name,
            provider=provider,
            model=model,
            upstream_id=entry.id,
            prices=prices if entry.prices is None else compile_prices(name, entry.prices),
            region=entry.region,
            weight=entry.weight,
            capabilities=model.capabilities & ~mask_of(entry.lacks),
            params=_merge(layer.params.merged() for layer in layers),
            unsupported_params=_merge(layer.unsupported_params for layer in layers),
            param_ranges=_merge(layer.param_ranges for layer in layers),
            rpm=entry.rpm or provider_entry.rpm,
            tpm=entry.tpm or provider_entry.tpm,
            concurrency=entry.concurrency,
            slow_ttft_s=entry.slow_ttft_s,
            endpoint=self._endpoint(path, provider, entry.id, stream=False),
            stream_endpoint=self._endpoint(path, provider, entry.id, stream=True),
        )

    def _endpoint(self, path: Path, provider: Provider, upstream_id: str, *, stream: bool) -> Endpoint | None:
        if provider.unavailable:
            return None
        try:
            return ADAPTERS[provider.adapter].endpoint(provider, upstream_id, stream=stream)
        except ValueError as error:
            problem = self._document.problem(path, f"provider {provider.name} cannot serve this: {error}")
            if problem not in self.problems:
                self.problems.append(problem)
            return None


def _merge(layers: Iterable[Mapping[str, V]]) -> dict[str, V]:
    """Later layers win."""
    return {field: value for layer in layers for field, value in layer.items()}


def _model(name: str, entry: ModelEntry) -> Model:
    capabilities = mask_of(entry.capabilities)
    reads = entry.context.input_tokens or 0
    if reads >= LARGE_CONTEXT_TOKENS:
        capabilities |= Capability.LARGE_CONTEXT.bit
    if reads >= EXTRA_LARGE_CONTEXT_TOKENS:
        capabilities |= Capability.EXTRA_LARGE_CONTEXT.bit
    return Model(
        name=name,
        display_name=entry.display_name or name,
        status=entry.status,
        capabilities=capabilities,
        input_tokens=entry.context.input_tokens,
        output_tokens=entry.context.output_tokens,
        quality=entry.quality,
        category=entry.category,
        created_at=int(_midnight(entry.released) or 0),
        deprecated_at=_midnight(entry.deprecated_on),
        retires_at=_midnight(entry.retires_on),
        replacement=entry.replacement,
        guidance=entry.guidance.model_dump(exclude_defaults=True),
        params=entry.params.merged(),
    )


def _tier(
    name: str,
    entry: TierEntry,
    models: Mapping[str, Model],
    served: Mapping[str, tuple[Deployment, ...]],
    in_place: Mapping[str, str],
) -> Tier:
    """The tier; `in_place` names what answers for models that have vanished."""
    chosen = entry.models if entry.models is not None else _matching(entry, models)

    def of(names: Sequence[str]) -> tuple[Deployment, ...]:
        present = dict.fromkeys(in_place.get(model, model) for model in names)
        return tuple(deployment for model in present for deployment in served[model])

    return Tier(
        name=name,
        deployments=of(chosen),
        policy=compile_chain(entry.policy),
        default=entry.default,
        params=entry.params.merged(),
        on_caller_left=_on_caller_left(entry),
        min_output_tokens=entry.min_output_tokens,
        timeouts=None if entry.timeouts is None else _timeouts(entry.timeouts),
        slow_ttft_s=entry.slow_ttft_s,
        description=entry.description,
        fallback=of(entry.fallback_models),
        overrides=tuple(
            Override(f"key:{override.key}" if override.key else f"tag:{override.tag}", of(override.models))
            for override in entry.overrides
        ),
    )


def _matching(entry: TierEntry, models: Mapping[str, Model]) -> list[str]:
    match = entry.match
    if match is None:
        return []
    required = mask_of(match.require)
    return [
        model.name
        for model in models.values()
        if model.status == "enabled"
        and (match.quality is None or model.quality == match.quality)
        and model.capabilities & required == required
    ]


def _on_caller_left(entry: TierEntry) -> OnCallerLeft:
    left = entry.on_caller_left
    return OnCallerLeft(left) if isinstance(left, str) else OnCallerLeft(left.action, left.seconds, left.tokens)


def _timeouts(entry: TimeoutsEntry) -> Timeouts:
    return replace(Timeouts(), **entry.model_dump(exclude_none=True))


def _reasons(catalog: CatalogEntry) -> dict[str, str]:
    return {name: model.reason for name, model in catalog.models.items() if model.reason}


def _midnight(day: date | None) -> float | None:
    return None if day is None else datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
