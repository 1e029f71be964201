"""Names in the document that must lead somewhere. Reads raw values, so that a wrong type hides no wrong name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from adapters import ADAPTERS
from gateway.catalog.document import Document
from gateway.catalog.problems import Path, Problem, hint, printable, shown
from policies import compile_chain
from policies.shadow import Shadow
from policies.step_down import StepDown
from policies.trial import Trial


def check_references(document: Document) -> list[Problem]:
    """Every name that leads nowhere, in a circle, or is taken twice; unknown adapters and policies too."""
    return list(_Checker(document).run())


class _Checker:
    def __init__(self, document: Document) -> None:
        self._document = document
        self._providers = _entries(document.data, "providers")
        self._models = _entries(document.data, "models")
        self._tiers = _entries(document.data, "tiers")

    def run(self) -> Iterator[Problem]:
        yield from self._check_providers()
        yield from self._check_models()
        yield from self._check_tiers()
        yield from self._check_aliases()
        yield from self._known(("default_tier",), self._document.data.get("default_tier"), "tier", self._tiers)

    def _known(self, path: Path, name: Any, what: str, names: Mapping[str, Any]) -> Iterator[Problem]:
        if isinstance(name, str) and name not in names:
            elsewhere = what == "model" and name in self._models
            problem = f"{shown(name)} is not among the tier's models" if elsewhere else f"unknown {what} {shown(name)}"
            yield self._document.problem(path, f"{problem}{hint(name, names)}")

    def _check_providers(self) -> Iterator[Problem]:
        for name, provider in self._providers.items():
            path: Path = ("providers", name)
            yield from self._known((*path, "adapter"), provider.get("adapter"), "adapter", ADAPTERS)
            adapter = ADAPTERS.get(_text(provider.get("adapter")))
            if adapter and adapter.default_base_url is None and provider.get("base_url") is None:
                message = f"'base_url' is missing — adapter {adapter.name} has no address of its own; add one"
                yield self._document.problem(path, message)
            for category, model in _mapping(provider.get("defaults")).items():
                yield from self._known((*path, "defaults", category), model, "model", self._models)

    def _check_models(self) -> Iterator[Problem]:
        taken: dict[str, Path] = {}
        for name, model in self._models.items():
            path: Path = ("models", name)
            yield from self._known((*path, "replacement"), model.get("replacement"), "model", self._models)
            yield from self._check_circle(name)
            yield from self._check_rows((*path, "prices"), model.get("prices"))
            for index, deployment in enumerate(_list(model.get("deployments"))):
                here = (*path, "deployments", index)
                entry = _mapping(deployment)
                provider = entry.get("provider")
                yield from self._known((*here, "provider"), provider, "provider", self._providers)
                yield from self._check_rows((*here, "prices"), entry.get("prices"))
                full_name = f"{provider}/{name}" + (f"#{entry['suffix']}" if entry.get("suffix") else "")
                if full_name in taken:
                    message = f"a second deployment {shown(full_name)} — give it a suffix, as in suffix: eu"
                    yield self._document.problem(here, message)
                taken[full_name] = here

    def _check_circle(self, start: str) -> Iterator[Problem]:
        seen = [start]
        while (step := _text(self._models.get(seen[-1], {}).get("replacement"))) in self._models:
            if step == start:
                circle = " -> ".join(map(printable, [*seen, start]))
                yield self._document.problem(("models", start, "replacement"), f"leads in a circle: {circle}; break it")
            if step in seen:
                return
            seen.append(step)

    def _check_rows(self, path: Path, rows: Any) -> Iterator[Problem]:
        """Prices are appended: each row starts after the one before; each cliff lies above the one before."""
        dates = [_text(_mapping(row).get("from")) for row in _list(rows)]
        for index in range(1, len(dates)):
            if dates[index] and dates[index] <= dates[index - 1]:
                message = f"{shown(dates[index])} is not after the row before ({dates[index - 1]}); append rows by date"
                yield self._document.problem((*path, index, "from"), message)
        for index, row in enumerate(_list(rows)):
            limits = [_mapping(cliff).get("tokens") for cliff in _list(_mapping(row).get("above"))]
            for at, (low, high) in enumerate(pairwise(limits), 1):
                if isinstance(low, int) and isinstance(high, int) and high <= low:
                    message = f"{high} is not above the one before ({low}); sort them"
                    yield self._document.problem((*path, index, "above", at, "tokens"), message)

    def _check_tiers(self) -> Iterator[Problem]:
        for name, tier in self._tiers.items():
            path: Path = ("tiers", name)
            if name in self._models:
                message = f"is also the name of a model (line {self._document.line(('models', name))}); rename one"
                yield self._document.problem(path, message)
            yield from self._check_model_list((*path, "models"), tier.get("models"))
            yield from self._check_model_list((*path, "fallback_models"), tier.get("fallback_models"))
            for index, override in enumerate(_list(tier.get("overrides"))):
                yield from self._check_model_list(
                    (*path, "overrides", index, "models"), _mapping(override).get("models")
                )
            members = {model: None for model in _list(tier.get("models")) if isinstance(model, str)}
            yield from self._known((*path, "default"), tier.get("default"), "model", members or self._models)
            quality = _mapping(tier.get("match")).get("quality")
            qualities = {_text(model.get("quality")): None for model in self._models.values() if model.get("quality")}
            yield from self._known((*path, "match", "quality"), quality, "quality", qualities)
            titles: set[str] = set()
            for index, item in enumerate(_list(tier.get("policy"))):
                yield from self._check_policy((*path, "policy", index), item, members or self._models, titles)

    def _check_model_list(self, path: Path, models: Any) -> Iterator[Problem]:
        seen: set[str] = set()
        for index, model in enumerate(_list(models)):
            yield from self._known((*path, index), model, "model", self._models)
            if isinstance(model, str) and model in seen:
                yield self._document.problem((*path, index), f"{shown(model)} stands here twice; remove one")
            seen.add(_text(model))

    def _check_policy(self, path: Path, item: Any, members: Mapping[str, Any], titles: set[str]) -> Iterator[Problem]:
        """`members` are the tier's models, `titles` the experiments that stand before this item."""
        try:
            (policy,) = compile_chain([item])
        except ValueError as error:
            yield self._document.problem(path, str(error).removeprefix("policy[0]: "))
            return
        if isinstance(policy, StepDown):
            yield from self._known(path, policy.to, "tier", self._tiers)
        if isinstance(policy, Trial):
            if policy.title in titles:
                yield self._document.problem(path, f"a second {shown(policy.title)} in this tier; give it another name")
            titles.add(policy.title)
            copied = isinstance(policy, Shadow)
            for name in policy.models:
                what = "model or deployment" if copied else "model of the tier"
                yield from self._known(path, name, what, self._targets() if copied else members)

    def _check_aliases(self) -> Iterator[Problem]:
        targets = self._targets()
        for alias, target in _mapping(self._document.data.get("aliases")).items():
            path: Path = ("aliases", alias)
            if alias in targets:
                message = f"is a name of the catalog already (line {targets[alias]}), which it would hide; remove it"
                yield self._document.problem(path, message)
            if isinstance(target, str) and target not in targets:
                aliased = target in _mapping(self._document.data.get("aliases"))
                fix = " — an alias of an alias; name what it stands for" if aliased else hint(target, targets)
                yield self._document.problem(path, f"unknown target {shown(target)}{fix}")

    def _targets(self) -> dict[str, int]:
        """Every name that an alias may stand for, with the line that makes it."""
        targets: dict[str, int] = {}
        for name, model in self._models.items():
            line = self._document.line(("models", name))
            targets[name] = line
            for deployment in map(_mapping, _list(model.get("deployments"))):
                provider, suffix = deployment.get("provider"), deployment.get("suffix")
                targets[f"{provider}/{name}"] = line
                if suffix:
                    targets[f"{provider}/{name}#{suffix}"] = line
        for name in self._tiers:
            line = self._document.line(("tiers", name))
            targets[name] = line
            targets.update({f"{name}@{provider}": line for provider in self._providers})
        return targets


def _entries(data: Mapping[str, Any], section: str) -> dict[str, dict[str, Any]]:
    """The entries of a section; what is no mapping counts as an empty one, since the schema speaks of it."""
    return {name: _mapping(entry) for name, entry in _mapping(data.get(section)).items()}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
