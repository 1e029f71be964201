"""Roles, and what each may do: one table, and whatever stands in no row is refused."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from gateway.errors import CallerError, Kind


class Role(StrEnum):
    """What a key is for."""

    APP = "app"
    OPS = "ops"
    FINANCE = "finance"
    ADMIN = "admin"


class Permission(StrEnum):
    """One thing that a route demands of its caller."""

    INFER = "infer"
    """Ask models, see the models and one's own limits."""
    READ_KEYS = "read_keys"
    """See keys and their limits, never a secret."""
    REVOKE_KEYS = "revoke_keys"
    """Stop a key at once."""
    WRITE_KEYS = "write_keys"
    """Make, change and rotate keys."""
    READ_REPORTS = "read_reports"
    """See cost and usage: reports and single ledger entries."""
    CORRECT_BOOKS = "correct_books"
    """Correct the ledger to a bill or to prices; every correction is an entry of its own."""
    READ_HEALTH = "read_health"
    """See deployments, breakers, catalog version, ledger lag."""
    OPERATE = "operate"
    """Change the catalog, explain routing decisions."""
    READ_AUDIT = "read_audit"
    """See and verify who changed what."""
    READ_DESCRIPTION = "read_description"
    """See what the admin API offers."""


PERMISSIONS: Mapping[Role, frozenset[Permission]] = {
    Role.APP: frozenset({Permission.INFER}),
    Role.OPS: frozenset(
        {
            Permission.READ_KEYS,
            Permission.REVOKE_KEYS,
            Permission.READ_HEALTH,
            Permission.OPERATE,
            Permission.READ_DESCRIPTION,
        }
    ),
    Role.FINANCE: frozenset({Permission.READ_REPORTS, Permission.CORRECT_BOOKS, Permission.READ_DESCRIPTION}),
    Role.ADMIN: frozenset(Permission),
}


def forbidden(role: Role, permission: Permission) -> CallerError:
    """The refusal of a caller whose role lacks a permission."""
    able = ", ".join(sorted(r.value for r, granted in PERMISSIONS.items() if permission in granted))
    return CallerError(
        Kind.FORBIDDEN, f"A key with role '{role}' may not do this ('{permission}'); it takes one of: {able}."
    )
