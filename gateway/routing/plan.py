"""The route of a request: candidates in the order to try them, and a reason for each deployment that is not one.

Pure: catalog, needs, options and facts in, plan out. The same `plan()` serves live traffic, explanations, simulation
and replay; asked to explain, it also writes down what it otherwise does in silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gateway.catalog.snapshot import Snapshot, Target
from gateway.errors import CallerError, GatewayError, Kind, bad_request
from gateway.routing.circumstances import circumstances
from gateway.routing.conversations import Conversations, weighs_cost
from gateway.routing.pool import Pool
from gateway.routing.refusal import refusal
from gateway.routing.trail import Trail
from gateway.types import Arm, Candidate, Facts, Needs, Options, Plan, Tier
from policies import compile_chain
from policies.access import Allowed
from policies.base import Context, Policy
from policies.chain import factories
from policies.context import Fits
from policies.health import Healthy
from policies.price import MaxCost, PriceKnown
from policies.provider import PreferProvider
from policies.step_down import StepDown
from policies.trial import Trial

_ALLOWED = Allowed()
_FITS = Fits()
_PRICE_KNOWN = PriceKnown(always=False)
_MAX_COST = MaxCost()
_HEALTHY = Healthy()
_MOST_POOLS = 4096
"""Callers choose capabilities, so the pools kept are bounded."""


class Planner:
    """Plans over one version of the catalog, and remembers what depends on that alone."""

    __slots__ = (
        "_concerned",
        "_members",
        "_orders",
        "_overridden",
        "_pools",
        "_preferences",
        "_stepping",
        "_trials",
        "circumstances",
        "conversations",
        "snapshot",
        "tries",
    )

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.circumstances, _ = circumstances(snapshot)
        self._pools: dict[tuple[Tier, int], Pool] = {}
        self._concerned: dict[tuple[Target, str | None], frozenset[str]] = {}
        self._overridden: dict[tuple[Tier, str], Tier] = {}
        self._orders: dict[str, tuple[Policy, ...]] = {}
        self._preferences = {name: PreferProvider((name,)) for name in snapshot.providers}
        self._members = {name: _models_of(tier) for name, tier in snapshot.tiers.items()}
        self.conversations = Conversations(snapshot)
        self._trials = {
            name: trials
            for name, tier in snapshot.tiers.items()
            if (trials := tuple(rule for rule in tier.policy if isinstance(rule, Trial)))
        }
        self.tries = bool(self._trials)
        """Whether any tier has an experiment, a canary or a shadow."""
        self._stepping = frozenset(
            name for name, tier in snapshot.tiers.items() if any(isinstance(rule, StepDown) for rule in tier.policy)
        )

    def plan(
        self, alias: str, target: Target, needs: Needs, options: Options, facts: Facts, *, explain: bool = False
    ) -> Plan:
        """The plan for a request to `target`, which its caller named `alias`.

        `dropped` and `steps` are filled only where an explanation is asked for; the candidates are the same either way.
        `tier` is the one that serves: a low budget may have made it another than the one asked for.

        Raises:
            CallerError: FORBIDDEN where the key may not use what it asks for; BAD_REQUEST for an unusable `policy`.
            RoutingError: NO_CANDIDATE where nothing can serve these needs; NONE_HEALTHY where nothing can now.
        """
        if facts.allowed_tiers is not None:
            self._permit(target, facts.allowed_tiers, facts)
        trail = Trail() if explain else None
        tier, candidates = self._route(target, needs, options, facts, trail)
        if not candidates:
            raise self._refusal(alias, target, needs, options, facts)
        trials = self._trials.get(tier.name) if self.tries else None
        return Plan(
            alias,
            tier.name if target.kind == "tier" else None,
            tuple(candidates),
            tuple(trail.dropped) if trail is not None else (),
            target.substituted,
            tuple(trail.steps) if trail is not None else (),
            () if trials is None else _arms(trials, Context(needs, options, facts, tier)),
        )

    def concerned(self, target: Target, served: str | None) -> frozenset[str]:
        """The deployments and models that a plan for `target`, served by the tier `served`, may have looked at."""
        key = (target, served)
        names = self._concerned.get(key)
        if names is None:
            tiers = {target.tier, self.snapshot.tiers.get(served or "", target.tier)}
            groups = [(t.deployments, t.fallback, *(o.deployments for o in t.overrides)) for t in tiers]
            found = [deployment for tier in groups for group in tier for deployment in group]
            names = frozenset(d.name for d in found) | frozenset(d.model.name for d in found)
            if len(self._concerned) < _MOST_POOLS:
                self._concerned[key] = names
        return names

    def steps_down(self, tier: Tier) -> bool:
        """Whether a low budget moves requests of this tier to another."""
        return tier.name in self._stepping

    def _route(
        self, target: Target, needs: Needs, options: Options, facts: Facts, trail: Trail | None
    ) -> tuple[Tier, Sequence[Candidate]]:
        tier, mask = target.tier, needs.mask | options.require
        if tier.overrides or (facts.budget_left_share is not None and tier.name in self._stepping):
            tier = self._tier(tier, options, facts, trail)
        pool = self._pools.get((tier, mask))
        if pool is None or not pool.since <= facts.now < pool.until:
            pool = self._pool(tier, mask, facts.now)
        candidates = pool.candidates(needs, facts)
        if trail is not None:
            trail.begin(pool, candidates)
        policies = self._policies(target, pool, needs, options, facts, trail is not None)
        if not policies:
            return tier, candidates
        context = Context(needs, options, facts, tier)
        for policy in policies:
            decision = policy.apply(candidates, context)
            if trail is not None:
                trail.note(policy.name, candidates, decision)
            candidates = decision.kept
        return tier, candidates

    def _tier(self, asked: Tier, options: Options, facts: Facts, trail: Trail | None) -> Tier:
        """The tier that serves: one step down for each step that the budget demands, then as key and tags have it."""
        tier = asked
        if facts.budget_left_share is not None and self.steps_down(tier):
            passed = {tier.name}
            while (lesser := self._step_down(tier, facts)) is not None and lesser.name not in passed:
                if trail is not None:
                    share = facts.budget_left_share
                    trail.steps.append(f"step_down: {share:.0%} of the budget left, {lesser.name} serves {tier.name}")
                passed.add(lesser.name)
                tier = lesser
        if tier.overrides:
            labels = facts.labels.union(f"tag:{name}={value}" for name, value in options.tags)
            for override in tier.overrides:
                if override.label in labels:
                    if trail is not None:
                        trail.steps.append(f"override: {override.label} has its own models in {tier.name}")
                    key = (tier, override.label)
                    if key not in self._overridden:
                        self._overridden[key] = replace(tier, deployments=override.deployments, overrides=())
                    return self._overridden[key]
        return tier

    def _step_down(self, tier: Tier, facts: Facts) -> Tier | None:
        due = (policy.to for policy in tier.policy if isinstance(policy, StepDown) and policy.due(facts))
        return self.snapshot.tiers.get(next(due, ""))

    def _pool(self, tier: Tier, mask: int, now: float) -> Pool:
        if len(self._pools) >= _MOST_POOLS:
            self._pools.clear()
        pool = self._pools[tier, mask] = Pool(tier, mask, now, _with_healthy(tier.policy))
        return pool

    def _policies(
        self, target: Target, pool: Pool, needs: Needs, options: Options, facts: Facts, every: bool
    ) -> list[Policy]:
        """The rules in their order: those that always hold, the tier's chain, the caller's wishes.

        Only the ones that can change something, unless `every` one is to be accounted for.
        """
        chosen: list[Policy] = []
        if every or facts.allowed_models is not None:
            chosen.append(_ALLOWED)
        if (
            every
            or needs.input_tokens > pool.most_input_tokens
            or (needs.output_tokens is not None and needs.output_tokens > pool.most_output_tokens)
        ):
            chosen.append(_FITS)
        if every or (facts.priced_only and not pool.priced):
            chosen.append(_PRICE_KNOWN)
        if every or options.max_cost_nano is not None:
            chosen.append(_MAX_COST)
        chosen += pool.usual if every or facts.health or len(pool.deployments) > 1 else pool.for_one
        if facts.sticky is not None and not weighs_cost(pool.tier):
            chosen.append(self.conversations.order(facts.sticky))
        if options.policy is not None:
            chosen += self._wished(options.policy)
        for provider in (target.prefer_provider, options.prefer_provider):
            if provider is not None and provider in self._preferences:
                chosen.append(self._preferences[provider])
        return chosen

    def _wished(self, name: str) -> tuple[Policy, ...]:
        """The policy that the caller named; it comes after the tier's own, so that no filter of the tier is lost."""
        if name not in self._orders:
            try:
                self._orders[name] = compile_chain([name])
            except ValueError as error:
                message = str(error).partition(": ")[2]
                if name in factories():
                    message = f"'{name}' takes settings, which only the catalog can give it"
                raise bad_request(f"Invalid value for 'gateway.policy': {message}", "gateway.policy") from None
        return self._orders[name]

    def _permit(self, target: Target, allowed: frozenset[str], facts: Facts) -> None:
        """Refuses a tier that the key is not allowed, and a model that is in no such tier nor on the key's list."""
        if target.kind == "tier":
            if target.name in allowed:
                return
        else:
            models = {deployment.model.name for deployment in target.tier.deployments}
            if facts.listed_models is not None and models <= facts.listed_models:
                return
            if any(models <= self._members[tier] for tier in allowed if tier in self._members):
                return
        may_use = ", ".join(sorted(allowed)) or "no tier"
        message = f"This key may not use {target.kind} '{target.name}'. It may use: {may_use}."
        raise CallerError(Kind.FORBIDDEN, message, param="model")

    def _refusal(self, alias: str, target: Target, needs: Needs, options: Options, facts: Facts) -> GatewayError:
        def reroute(facts: Facts) -> tuple[bool, Trail]:
            trail = Trail()
            _, candidates = self._route(target, needs, options, facts, trail)
            return bool(candidates), trail

        return refusal(alias, needs.mask | options.require, needs, facts, reroute)


def _with_healthy(chain: Sequence[Policy]) -> tuple[Policy, ...]:
    """The chain with `healthy` before it, unless it names a place for it."""
    return tuple(chain) if any(policy.name == Healthy.name for policy in chain) else (_HEALTHY, *chain)


def _arms(trials: Sequence[Trial], context: Context) -> tuple[Arm, ...]:
    drawn = (trial.arm(context) for trial in trials)
    return tuple(arm for arm in drawn if arm is not None)


def _models_of(tier: Tier) -> frozenset[str]:
    overridden = (deployment for override in tier.overrides for deployment in override.deployments)
    return frozenset(d.model.name for d in (*tier.deployments, *tier.fallback, *overridden))
