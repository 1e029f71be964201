"""What the admin API works on; made once by the gateway's wiring, and by tests with whatever they need."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.admin.audit import Audit
from gateway.callers.caller import Caller
from gateway.callers.callers import Callers
from gateway.callers.keys import Pepper
from gateway.callers.records import KeyRecords
from gateway.catalog.living import LivingCatalog
from gateway.ledger.journal import Journal
from gateway.storage.client import Store

if TYPE_CHECKING:
    from gateway.admin.trials import Trials

Facts = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Parts and hooks. `clock` is seconds since the epoch."""

    store: Store
    journal: Journal
    callers: Callers
    records: KeyRecords
    pepper: Pepper
    audit: Audit
    catalog: LivingCatalog
    clock: Callable[[], float]
    new_request_id: Callable[[], str]
    health: Callable[[], Awaitable[Facts]]
    """Deployments, breakers, catalog version, ledger lag."""
    reload_catalog: Callable[[], Awaitable[Facts]]
    """Loads the catalog anew; tells the version in force. Raises CatalogError for one that cannot take effect."""
    explain_past: Callable[[str, Caller], Awaitable[Facts | None]]
    """The decision of a request of the caller's tenant by its id; None where none is kept."""
    decisions: Callable[[float, Caller], AsyncIterator[bytes]]
    """The decisions of the caller's tenant since a time (epoch seconds), as lines for `catalog simulate`."""
    trials: Trials
    """Experiments, canaries and shadows."""
    explain: Callable[[bytes, Caller], Awaitable[Facts]]
    """The plan that a chat-completions body would get now from this caller."""
