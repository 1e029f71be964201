"""A minted key's scope lies within its minter's."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from gateway.callers.bootstrap import ADMIN_KEY_ID
from gateway.callers.caller import Caller, Network
from gateway.callers.keys import MAIN_TENANT
from gateway.callers.records import KeyRecord
from gateway.callers.roles import PERMISSIONS, Role
from gateway.errors import CallerError, Kind


def check_within(minter: Caller, record: KeyRecord) -> None:
    """Refuses a record that may do anything its minter may not. The installation's own admin token may found another
    tenant by making an admin for it; from then on that tenant's keys are that admin's alone.

    Raises:
        CallerError: FORBIDDEN, naming the field that reaches too far.
    """
    founding = (minter.tenant, minter.key_id) == (MAIN_TENANT, ADMIN_KEY_ID) and record.role is Role.ADMIN
    if record.tenant != minter.tenant and not founding:
        raise _wider("tenant", f"only keys of tenant '{minter.tenant}'; the installation's own token may make an admin")
    if not PERMISSIONS[record.role] <= minter.permissions:
        raise _wider("role", f"only roles that may do no more than '{minter.role}'")
    if minter.limits is not None:
        raise _wider("budget", "no keys at all: its own budget or rate limits would not hold them")
    if not _subset(record.tiers, minter.tiers):
        raise _wider("tiers", f"only the tiers {_names(minter.tiers)}")
    if not _subset(record.models, minter.models):
        raise _wider("models", f"only the models {_names(minter.models)}")
    if not minter.denied_models <= set(record.denied_models):
        raise _wider("denied_models", f"only keys that are denied {_names(minter.denied_models)} too")
    if minter.networks and not _enclosed(record.cidrs, minter.networks):
        raise _wider("cidrs", f"only keys for addresses within {_names(map(str, minter.networks))}")
    if minter.expires_at is not None and (record.expires_at is None or record.expires_at > minter.expires_at):
        raise _wider("expires_at", "only keys that expire no later than itself")


def _subset(wanted: tuple[str, ...] | None, granted: frozenset[str] | None) -> bool:
    return granted is None or (wanted is not None and granted.issuperset(wanted))


def _enclosed(cidrs: tuple[str, ...], networks: tuple[Network, ...]) -> bool:
    return bool(cidrs) and all(
        any(_inside(ipaddress.ip_network(cidr), network) for network in networks) for cidr in cidrs
    )


def _inside(inner: Network, outer: Network) -> bool:
    if isinstance(inner, ipaddress.IPv4Network) and isinstance(outer, ipaddress.IPv4Network):
        return inner.subnet_of(outer)
    if isinstance(inner, ipaddress.IPv6Network) and isinstance(outer, ipaddress.IPv6Network):
        return inner.subnet_of(outer)
    return False


def _names(names: Iterable[str] | None) -> str:
    return ", ".join(sorted(names or ())) or "(none)"


def _wider(field: str, may: str) -> CallerError:
    return CallerError(Kind.FORBIDDEN, f"'{field}' reaches further than your own key: it may make {may}.", param=field)
