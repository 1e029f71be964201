"""Names in the document that must lead somewhere. Reads raw values, so that a wrong type hides no wrong name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import islice, pairwise
from typing import Any

from adapters import ADAPTERS
from gateway.catalog.document import Document
from gateway.catalog.nearest import Nearest
from gateway.catalog.problems import WORDED, Path, Problem, hint, printable, shown
from policies import compile_chain
from policies.shadow import Shadow
from policies.step_down import StepDown
from policies.trial import Trial

_FEW = 24
"""Names that are compared one by one, or told of a circle."""


def check_references(document: Document) -> list[Problem]:
    """Every name that leads nowhere, in a circle, or is taken twice; unknown adapters and policies too.

    Of very many the first are told, and that there are more.
    """
    problems = list(islice(_Checker(document).run(), WORDED + 1))
    if len(problems) > WORDED:
        problems[WORDED] = Problem(0, "", f"has more than {WORDED:,} wrong names; the first were looked at")
    return problems


class _Checker:
    def __init__(self, document: Document) -> None:
        self._document = document
        self._providers = _entries(document.data, "providers")
        self._models = _entries(document.data, "models")
        self._tiers = _entries(document.data, "tiers")
        self._indexes: dict[int, tuple[Mapping[str, Any], Nearest]] = {}

    def run(self) -> Iterator[Problem]:
        yield from self._check_providers()
        yield from self._check_models()
        yield from self._check_circles()
        yield from self._check_tiers()
        yield from self._check_aliases()
        yield from self._known(("default_tier",), self._document.data.get("default_tier"), "tier", self._tiers)

    def _known(self, path: Path, name: Any, what: str, names: Mapping[str, Any]) -> Iterator[Problem]:
        if isinstance(name, str) and name not in names:
            elsewhere = what == "model" and name in self._models
            problem = f"{shown(name)} is not among the tier's models" if elsewhere else f"unknown {what} {shown(name)}"
            yield self._document.problem(path, f"{problem}{self._hint(name, names)}")

    def _hint(self, name: str, names: Mapping[str, Any]) -> str:
        """As `hint`, in a time that does not grow with the names; these are kept, and looked through once."""
        if len(names) <= _FEW:
            return hint(name, names)
        known = self._indexes.get(id(names))
        if known is None:
            known = self._indexes[id(names)] = names, Nearest(names)
        near = hint(name, known[1].find(name, 1))
        return near if near.endswith("?") else f" — {len(names):,} are known, none of them like it"

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

    def _check_circles(self) -> Iterator[Problem]:
        followed: set[str] = set()
        for start in self._models:
            chain: dict[str, int] = {}
            step = start
            while step in self._models and step not in followed and step not in chain:
                chain[step] = len(chain)
                step = _text(self._models[step].get("replacement"))
            followed |= chain.keys()
            if step in chain:
                circle = list(chain)[chain[step] :]
                for index, name in enumerate(circle):
                    ahead = [circle[(index + n) % len(circle)] for n in range(min(len(circle) + 1, _FEW))]
                    told = " -> ".join(map(printable, ahead)) + (" -> …" if len(circle) >= _FEW else "")
                    message = f"leads in a circle: {told}; break it"
                    yield self._document.problem(("models", name, "replacement"), message)

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
            yield from self._known((*path, "match", "quality"), quality, "quality", self._qualities)
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
                if not copied:
                    yield from self._known(path, name, "model of the tier", members)
                elif self._line_of(name) is None:
                    yield from self._known(path, name, "model or deployment", self._targets)

    def _check_aliases(self) -> Iterator[Problem]:
        aliases = _mapping(self._document.data.get("aliases"))
        for alias, target in aliases.items():
            path: Path = ("aliases", alias)
            if (line := self._line_of(alias)) is not None:
                message = f"is a name of the catalog already (line {line}), which it would hide; remove it"
                yield self._document.problem(path, message)
            if isinstance(target, str) and self._line_of(target) is None:
                alike = " — an alias of an alias; name what it stands for"
                fix = alike if target in aliases else self._hint(*self._to_look_for(target))
                yield self._document.problem(path, f"unknown target {shown(target)}{fix}")

    def _line_of(self, target: str) -> int | None:
        """Where a name is made that an alias may stand for."""
        tier, _, provider = target.partition("@")
        return self._targets.get(tier if provider in self._providers and tier in self._tiers else target)

    def _to_look_for(self, target: str) -> tuple[str, Mapping[str, Any]]:
        """What is wrong in the name of an alias's target, and what it may be instead."""
        tier, at, provider = target.partition("@")
        if not at:
            return target, self._targets
        return (provider, self._providers) if tier in self._tiers else (tier, self._tiers)

    @cached_property
    def _targets(self) -> dict[str, int]:
        """These names, but for those of a tier at a provider, with the line that makes each."""
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
            targets[name] = self._document.line(("tiers", name))
        return targets

    @cached_property
    def _qualities(self) -> dict[str, None]:
        return {_text(model.get("quality")): None for model in self._models.values() if model.get("quality")}


def _entries(data: Mapping[str, Any], section: str) -> dict[str, dict[str, Any]]:
    """The entries of a section; what is no mapping counts as an empty one, since the schema speaks of it."""
    return {name: _mapping(entry) for name, entry in _mapping(data.get(section)).items()}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
