"""Who is asking, as every part of the gateway sees it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field

from gateway.callers.records import Criticality, KeyRecord, record_name
from gateway.callers.roles import PERMISSIONS, Permission, Role, forbidden
from gateway.ledger.limits import Budget, Cap, Limits

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, eq=False)
class Caller:
    """An identified caller: a key and what it may do."""

    tenant: str
    key_id: str
    name: str
    role: Role
    team: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    tiers: frozenset[str] | None = None
    """The tiers it may ask for; None for all."""
    models: frozenset[str] | None = None
    """The models that may serve it; None for all."""
    denied_models: frozenset[str] = frozenset()
    """Models that may not, whatever `models` says."""
    limits: Limits | None = None
    """None where nothing limits it: the request path then never waits for the store."""
    criticality: Criticality = "default"
    networks: tuple[Network, ...] = ()
    """Where its requests must come from; empty for anywhere."""
    expires_at: float | None = None
    permissions: frozenset[Permission] = field(default=frozenset())
    labels: frozenset[str] = frozenset()
    """`key:NAME` and `tag:NAME=VALUE`: what a tier's overrides look at."""

    def allowed_models(self, known: Iterable[str]) -> frozenset[str] | None:
        """Which of the `known` models may serve it; None for all of them."""
        if not self.denied_models:
            return self.models
        return (frozenset(known) if self.models is None else self.models) - self.denied_models

    def may(self, permission: Permission) -> bool:
        return permission in self.permissions

    def require(self, permission: Permission) -> None:
        """Raises:
        CallerError: FORBIDDEN where the role lacks this permission.
        """
        if permission not in self.permissions:
            raise forbidden(self.role, permission)

    def admits(self, address: str | None) -> bool:
        """Whether requests of this caller may come from this IP address."""
        if not self.networks:
            return True
        try:
            client = ipaddress.ip_address(address or "")
        except ValueError:
            return False
        if isinstance(client, ipaddress.IPv6Address) and client.ipv4_mapped:
            client = client.ipv4_mapped
        return any(client in network for network in self.networks)


def caller_of(record: KeyRecord) -> Caller:
    """The caller that a key record describes."""
    return Caller(
        tenant=record.tenant,
        key_id=record.key_id,
        name=record.name,
        role=record.role,
        team=record.team,
        tags=tuple(sorted(record.tags.items())),
        tiers=_set(record.tiers),
        models=_set(record.models),
        denied_models=frozenset(record.denied_models),
        limits=limits_of(record),
        criticality=record.criticality,
        networks=tuple(ipaddress.ip_network(cidr) for cidr in record.cidrs),
        expires_at=record.expires_at,
        permissions=PERMISSIONS[record.role],
        labels=frozenset({f"key:{record.name}", *(f"tag:{name}={value}" for name, value in record.tags.items())}),
    )


def bootstrap_caller(tenant: str, key_id: str, role: Role) -> Caller:
    """A caller without limits that no record stands for: its credential is part of the installation's settings."""
    return Caller(tenant, key_id, f"bootstrap {role}", role, permissions=PERMISSIONS[role])


def limits_of(record: KeyRecord) -> Limits | None:
    """What the ledger must hold a key to, or None where nothing limits it."""
    scope = f"k:{record.key_id}"
    budgets = tuple(
        Budget(f"{record.key_id}-{b.per}", b.limit_nano, b.per, b.hard, on_store_down=b.on_store_down)
        for b in record.budgets
    )
    rpm, tpm, concurrency = (
        (Cap(scope, n, record.rates_on_store_down),) if n else () for n in (record.rpm, record.tpm, record.concurrency)
    )
    if not (budgets or rpm or tpm or concurrency):
        return None
    name = record_name(record.tenant, record.key_id)
    return Limits(record.tenant, budgets, rpm, tpm, concurrency, record=name)


def _set(names: tuple[str, ...] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(names)
