"""Budgets and rates beyond keys: for a team, a tag, a tier, a session or the whole tenant.

They are kept in the store and asked for every few seconds, never by a request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any, Literal

import msgspec

from gateway.background import Repeated
from gateway.callers.caller import Caller
from gateway.callers.keys import MAIN_TENANT
from gateway.callers.records import STORE_AWAY, store_away
from gateway.ledger.limits import Budget, Cap, Limits, OnStoreDown, Per
from gateway.log import get_logger
from gateway.storage.client import Store

REFRESH_S = 3.0
"""A change holds everywhere within five seconds."""
_LOOKUP_S = 3.0
_MOST_CALLERS = 10_000

Subject = Literal["tenant", "team", "tag", "tier", "session"]

_log = get_logger("rules")


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What all requests of a subject may spend together, and how fast. None for no such limit."""

    id: str
    of: Subject
    name: str = ""
    """The team, the tier, or `NAME=VALUE` of the tag; empty for the tenant, and for sessions: each has its own."""
    limit_nano: int | None = None
    per: Per = "month"
    hard: bool = True
    on_store_down: OnStoreDown = "deny"
    rpm: int | None = None
    tpm: int | None = None
    concurrency: int | None = None
    rates_on_store_down: OnStoreDown = "allow"
    """The same for rpm, tpm and concurrency."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Rule).decode


class RuleRecords:
    """The rules in the store. Every method may raise one of `STORE_AWAY`."""

    def __init__(self, store: Store) -> None:
        self._store: Any = store

    async def all(self, tenant: str) -> list[Rule]:
        """Every rule of a tenant, by id."""
        found = await self._store.execute_command("HVALS", _key(tenant))
        return sorted(map(_decode, found), key=lambda rule: rule.id)

    async def write(self, tenant: str, rule: Rule) -> None:
        """Makes a rule, or replaces the one of that id; what was spent stays counted."""
        await self._store.execute_command("HSET", _key(tenant), rule.id, _encode(rule))

    async def delete(self, tenant: str, rule_id: str) -> bool:
        """Whether there was one."""
        return bool(await self._store.execute_command("HDEL", _key(tenant), rule_id))


class RuleSet:
    """A tenant's rules as of a moment, with the limits worked out of them."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self._by_subject: dict[tuple[str, str], list[Rule]] = {}
        for rule in rules:
            self._by_subject.setdefault((rule.of, rule.name), []).append(rule)
        self._by_request = any(rule.of in ("tier", "session", "tag") for rule in rules)
        self._of_caller: dict[Caller, Limits | None] = {}
        self._of_tier: dict[tuple[Caller, str | None], Limits | None] = {}

    def of_caller(self, caller: Caller) -> Limits | None:
        """What limits every request of this caller: its own limits, its tenant's, its team's and those of its tags."""
        if caller not in self._of_caller:
            if len(self._of_caller) >= _MOST_CALLERS:
                self._of_caller.clear()
            names = [("tenant", ""), ("team", caller.team), *(("tag", f"{n}={v}") for n, v in caller.tags)]
            self._of_caller[caller] = _joined(caller, caller.limits, self._rules_of(names))
        return self._of_caller[caller]

    def of_request(
        self,
        caller: Caller,
        tier: str | None,
        session: str | None,
        tags: tuple[tuple[str, str], ...],
    ) -> Limits | None:
        """What limits a request that this tier serves: the caller's rules, and those of tier, session and own tags."""
        if not self.rules:
            return caller.limits
        if not self._by_request:
            return self.of_caller(caller)
        limits = self._of_caller_in(caller, tier)
        if tags:
            names = [("tag", f"{n}={v}") for n, v in tags if (n, v) not in caller.tags]
            limits = _joined(caller, limits, self._rules_of(names))
        if session is not None:
            limits = _joined(caller, limits, self._by_subject.get(("session", ""), ()), f"{caller.key_id}/{session}")
        return limits

    def _of_caller_in(self, caller: Caller, tier: str | None) -> Limits | None:
        key = caller, tier
        if key not in self._of_tier:
            if len(self._of_tier) >= _MOST_CALLERS:
                self._of_tier.clear()
            self._of_tier[key] = _joined(caller, self.of_caller(caller), self._by_subject.get(("tier", tier or ""), ()))
        return self._of_tier[key]

    def _rules_of(self, names: Iterable[tuple[str, str]]) -> list[Rule]:
        return [rule for name in names for rule in self._by_subject.get(name, ())]


class Rules:
    """The rule sets of the tenants that ask, kept fresh in the background."""

    def __init__(self, records: RuleRecords) -> None:
        self._records = records
        self._sets: dict[str, RuleSet] = {}
        self.known: Callable[[str], RuleSet | None] = self._sets.get
        """A tenant's rules as last asked for; None where nobody has asked yet. Every request asks, so no method."""
        self._refreshing = Repeated("rules", REFRESH_S, self._refresh)

    async def start(self) -> None:
        """Asks for the main tenant's rules, then again and again for everyone's.

        Raises:
            GatewayUnavailable: LEDGER_DOWN, the store cannot be asked.
        """
        await self.of(MAIN_TENANT)
        await self._refreshing.start()

    async def close(self) -> None:
        """Ends the background work."""
        await self._refreshing.close()

    async def of(self, tenant: str) -> RuleSet:
        """The rules, asked for where they are not known.

        Raises:
            GatewayUnavailable: LEDGER_DOWN, they are not known and the store cannot be asked.
        """
        if (known := self._sets.get(tenant)) is not None:
            return known
        try:
            return await self._load(tenant)
        except (*STORE_AWAY, TimeoutError):
            raise store_away() from None

    async def _load(self, tenant: str) -> RuleSet:
        async with asyncio.timeout(_LOOKUP_S):
            rules = await self._records.all(tenant)
        known = self._sets.get(tenant)
        if known is None or known.rules != tuple(rules):
            known = self._sets[tenant] = RuleSet(rules)
        return known

    async def _refresh(self) -> None:
        for tenant in list(self._sets):
            try:
                await self._load(tenant)
            except (*STORE_AWAY, TimeoutError):
                return  # what was known last holds on
            except msgspec.DecodeError as error:
                _log.error("rules_unreadable", tenant=tenant, why=str(error))


def budget_of(rule: Rule, session: str = "") -> Budget | None:
    """The rule's budget, where it has one; `session` tells one session's from another's."""
    if rule.limit_nano is None:
        return None
    suffix = f"-{sha256(session.encode()).hexdigest()[:16]}" if session else ""
    return Budget(f"r-{rule.id}{suffix}", rule.limit_nano, rule.per, rule.hard, rule.of, rule.on_store_down)


def _joined(caller: Caller, limits: Limits | None, rules: Iterable[Rule], session: str = "") -> Limits | None:
    for rule in rules:
        if (budget := budget_of(rule, session)) is not None:
            limits = limits or Limits(caller.tenant)
            limits = replace(limits, budgets=(*limits.budgets, budget))
        suffix = f":{sha256(session.encode()).hexdigest()[:16]}" if session else ""
        limits = _with_caps(caller, limits, rule, f"r:{rule.id}{suffix}")
    return limits


def _with_caps(caller: Caller, limits: Limits | None, rule: Rule, scope: str) -> Limits | None:
    rpm, tpm, concurrency = (
        (Cap(scope, n, rule.rates_on_store_down),) if n else () for n in (rule.rpm, rule.tpm, rule.concurrency)
    )
    if not (rpm or tpm or concurrency):
        return limits
    limits = limits or Limits(caller.tenant)
    return replace(
        limits,
        rpm=limits.rpm + rpm,
        tpm=limits.tpm + tpm,
        concurrency=limits.concurrency + concurrency,
    )


def _key(tenant: str) -> str:
    return f"{{t:{tenant}}}:rules"
