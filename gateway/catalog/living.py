"""The catalog with everything that keeps it true: its source, its versions, discovery, key checks, the fleet."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from redis.exceptions import RedisError

from gateway.background import Repeated, end
from gateway.catalog.findings import Findings
from gateway.catalog.fleet import Fleet
from gateway.catalog.refresh import LEAST_S, Discovery
from gateway.catalog.source import CatalogSource
from gateway.catalog.verify import KeyChecks
from gateway.catalog.versions import Versions
from gateway.ledger.reports import DAY_S, HOUR_S, report
from gateway.log import get_logger
from gateway.storage.client import Store
from gateway.upstream.client import Upstream

TRAFFIC_DAYS = 7
"""A model that vanishes after carrying traffic within so many days is alerted of."""
_TENANT = "main"
_ROUND_S = 1.0
"""How often this process tells the fleet of itself, and looks for keys to check."""

_log = get_logger("catalog")


@dataclass(frozen=True, slots=True)
class Vanished:
    """A deployment that carried traffic lately, and whose provider lists its model no longer."""

    deployment: str
    provider: str
    upstream_id: str
    attempts: int | None
    """In the last `days`; None where the books could not be read."""
    days: int = TRAFFIC_DAYS

    @property
    def text(self) -> str:
        """The same in a sentence."""
        carried = "an unknown number of" if self.attempts is None else self.attempts
        return (
            f"{self.provider} lists {self.upstream_id} no longer; "
            f"{self.deployment} carried {carried} attempts in the last {self.days} days"
        )


class LivingCatalog:
    """One for each process."""

    def __init__(
        self,
        source: CatalogSource,
        store: Store,
        upstream: Upstream,
        *,
        in_store: bool,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        price_data: Path | None = None,
        discover_every_s: float = 0.0,
        on_vanished: Callable[[Vanished], None] = lambda gone: None,
    ) -> None:
        """`in_store`: the document lives in the store; `discover_every_s`: 0 discovers only when asked to.

        `clock` gives seconds since the epoch; `on_vanished` is told once of each model in use that vanishes.
        """
        self.source = source
        self.upstream = upstream
        self.versions = Versions(store, clock)
        self.findings = Findings(store)
        self.checks = KeyChecks(upstream, monotonic)
        self.fleet = Fleet(store, source, None if in_store else self.versions, self.findings, self.checks, clock)
        self.discovery = Discovery(
            source, upstream, self.findings, clock, price_data=price_data, on_vanished=self._vanished
        )
        self._store = store
        self._clock = clock
        self._in_store = in_store
        self._on_vanished = on_vanished
        self._watching: asyncio.Task[None] | None = None
        self._repeated = [
            Repeated("catalog-fleet", _ROUND_S, self.fleet.try_step),
            Repeated("catalog-keys", _ROUND_S, partial(self.checks.check_due, source)),
        ]
        if discover_every_s:
            due = partial(self.discovery.refresh_due, discover_every_s)
            self._repeated.append(Repeated("catalog-discovery", min(discover_every_s, LEAST_S), due))

    async def start(self) -> None:
        """Takes up what is known already, then keeps everything up to date in the background.

        Raises:
            CatalogError: what is published cannot take effect here.
            redis.exceptions.RedisError: the store does not answer.
        """
        if self._in_store:
            await self.source.follow(self.versions)
        await self.fleet.step()
        self._watching = asyncio.create_task(self.source.watch(), name="catalog-watch")
        for work in self._repeated:
            await work.start()

    async def close(self) -> None:
        """Ends what runs in the background."""
        if self._watching is not None:
            await end(self._watching)
        await asyncio.gather(*(work.close() for work in self._repeated))
        with contextlib.suppress(RedisError, OSError):  # it is forgotten by itself soon
            await self.fleet.leave()

    async def traffic(self, days: int = TRAFFIC_DAYS) -> dict[str, dict[str, int]]:
        """What each deployment did in the last days, today included: attempts, tokens by kind, cost."""
        now = self._clock()
        end = (now // HOUR_S + 1) * HOUR_S
        rows = await report(self._store, _TENANT, end // DAY_S * DAY_S - days * DAY_S, end, ("deployment",), now=now)
        return {
            row.names[0]: {name: n for name, n in row.as_dict(("deployment",)).items() if isinstance(n, int)}
            for row in rows
        }

    async def _vanished(self, provider: str, upstream_ids: Sequence[str]) -> None:
        traffic: dict[str, dict[str, int]] | None
        try:
            traffic = await self.traffic()
        except (RedisError, OSError):  # the finding is kept already: now or never
            traffic = None
        for deployment in self.source.current.deployments.values():
            if deployment.provider.name == provider and deployment.upstream_id in upstream_ids:
                attempts = None if traffic is None else traffic.get(deployment.name, {}).get("attempts", 0)
                _log.warning("model_vanished", deployment=deployment.name, attempts=attempts, days=TRAFFIC_DAYS)
                if attempts != 0:
                    self._on_vanished(Vanished(deployment.name, provider, deployment.upstream_id, attempts))
