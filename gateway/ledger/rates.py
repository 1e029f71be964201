"""What the catalog lets be asked of a deployment, by all tenants of all replicas together.

Its requests and tokens per minute and its requests at once are counted in a slot of the store of their own, apart from
what tenants may: see docs/decisions/030-rates-of-deployments.md. Only requests to a deployment with such limits ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.background import Repeated, end
from gateway.errors import Kind, NoRoom
from gateway.ledger.exchange import Script, StoreDown, source_of
from gateway.ledger.refusal import CAP_WORDS
from gateway.log import get_logger
from gateway.storage.client import Store
from gateway.types import Deployment

LEASE_S = 120.0
"""How long an attempt of a gateway that died counts as running."""
_RENEW_EVERY_S = 30.0
_PATIENCE_S = 0.8
"""Above what a busy process takes to notice an answer. Only those who find out that the store is away wait for it."""
_ASK_AGAIN_S = 1.0
"""How often a store that is away is asked whether it is back."""
_MOST_TAKES = 256
_MOST_RETURNS = 10_000

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[Any, ...]]).decode

log = get_logger("rates")


class Share:
    """What one attempt takes of a deployment's rates, until it is over."""

    __slots__ = ("_attempt", "_counter", "_tokens", "counted")

    def __init__(self, counter: _Counter, attempt: str, tokens: int, *, counted: bool) -> None:
        self._counter: _Counter | None = counter
        self._attempt = attempt
        self._tokens = tokens
        self.counted = counted
        """False where the store was away: the attempt goes on all the same."""

    def end(self, *, sent: bool, tokens: int) -> None:
        """The attempt is over: it used so many tokens, or was never sent. A second call changes nothing."""
        counter, self._counter = self._counter, None
        if counter is not None and self.counted:
            counter.give_back(self._attempt, 0 if sent else -1, tokens - self._tokens)


class Rates:
    """The deployments' counts, as this process takes part in them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._script = Script(source_of("common", "rates"))
        self._counters: dict[str, _Counter] = {}
        self._renewing = Repeated("rates", _RENEW_EVERY_S, self._renew)

    async def start(self) -> None:
        """Begins to renew the leases of what runs for long."""
        await self._renewing.start()

    async def close(self) -> None:
        """Gives back what is to be given back, once."""
        await self._renewing.close()
        for counter in self._counters.values():
            await counter.close()

    async def take(self, deployment: Deployment, attempt: str, tokens: int) -> Share:
        """Room for an attempt of about so many tokens at a deployment that has limits.

        While the store is away nothing is counted and nothing refused: the provider then tells by itself.

        Raises:
            NoRoom: the deployment is at one of its limits.
        """
        most = deployment.rpm or 0, deployment.tpm or 0, deployment.concurrency or 0
        counter = self._counters.get(deployment.name)
        if counter is None:
            counter = _Counter(deployment.name, self._store, self._script)
            self._counters[deployment.name] = counter
        return await counter.take(most, attempt, tokens)

    async def _renew(self) -> None:
        for counter in self._counters.values():
            counter.renew()


Most = tuple[int, int, int]
"""Requests and tokens per minute, requests at once; 0 for no limit."""
Verdict = tuple[Any, ...]
"""As rates.lua gives it."""
Take = tuple[str, int, "asyncio.Future[Verdict | None]"]
"""Attempt, tokens, and who waits."""


class _Counter:
    """One deployment: one exchange with the store at a time; what comes meanwhile forms the next."""

    def __init__(self, name: str, store: Store, script: Script) -> None:
        self._name = name
        self._store = store
        self._script = script
        self._most: Most = (0, 0, 0)
        self._takes: list[Take] = []
        self._returns: list[tuple[str, int, int]] = []
        self._running: set[str] = set()
        """Attempts that count towards the requests at once."""
        self._renewals: list[str] = []
        self._away = False
        """Whether the store did not answer the last time."""
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    async def take(self, most: Most, attempt: str, tokens: int) -> Share:
        self._most = most
        tokens = min(tokens, most[1])
        if self._away:
            return Share(self, attempt, tokens, counted=False)
        asked = attempt, tokens, asyncio.get_running_loop().create_future()
        self._takes.append(asked)
        self._wake()
        try:
            verdict = await asked[2]
        except asyncio.CancelledError:
            if asked in self._takes:
                self._takes.remove(asked)
            else:  # it may have been taken
                self.give_back(attempt, -1, -tokens)
            raise
        if verdict:
            raise self._full(*verdict)
        if most[2] and verdict is not None:
            self._running.add(attempt)
        return Share(self, attempt, tokens, counted=verdict is not None)

    def give_back(self, attempt: str, requests: int, tokens: int) -> None:
        """Ends an attempt, with what it took too much (below zero) or too little of requests and tokens."""
        rpm, tpm, at_once = self._most
        self._running.discard(attempt)
        if (at_once or (rpm and requests) or (tpm and tokens)) and len(self._returns) < _MOST_RETURNS:
            self._returns.append((attempt, requests, tokens))
            self._wake()

    def renew(self) -> None:
        """Keeps what runs from being taken for lost."""
        if self._running or self._returns:
            self._renewals = list(self._running)
            self._wake()

    async def close(self) -> None:
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=_PATIENCE_S)
        if self._task is not None:
            await end(self._task)
        if self._timer is not None:  # perhaps set only now
            self._timer.cancel()

    def _full(self, limit: str, wait_ms: int, rest_ms: int) -> NoRoom:
        most = dict(zip(CAP_WORDS, self._most, strict=True))[limit]
        message = f"{self._name} is at its limit of {most} {CAP_WORDS[limit]}."
        return NoRoom(Kind.RATE_LIMITED, message, retry_after_s=wait_ms / 1000, rest_s=rest_ms / 1000)

    def _wake(self) -> None:
        if self._task is None and not self._away:
            self._begin()

    def _begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            while await self._exchange() and (self._takes or self._returns or self._renewals):
                pass
        finally:
            self._task = None
        if self._away:
            self._timer = asyncio.get_running_loop().call_later(_ASK_AGAIN_S, self._begin)

    async def _exchange(self) -> bool:
        """Whether the store answered."""
        takes, self._takes = self._takes[:_MOST_TAKES], self._takes[_MOST_TAKES:]
        returns, self._returns = self._returns, []
        renewals, self._renewals = self._renewals, []
        asked = [(attempt, tokens) for attempt, tokens, _ in takes]
        load: tuple[Any, ...] = (self._most, int(LEASE_S * 1000), asked, returns, renewals)
        verdicts: list[Verdict] | None = None
        try:
            async with asyncio.timeout(_PATIENCE_S):
                verdicts = _decode(await self._script.run(self._store, f"{{p:{self._name}}}:", _encode(load)))
            _tell(takes, verdicts)
        except (StoreDown, TimeoutError, msgspec.DecodeError) as error:
            if not self._away:
                log.warning("deployment_rates_not_kept", deployment=self._name, why=type(error).__name__)
        except Exception:
            verdicts = None
            log.exception("deployment_rates_failed", deployment=self._name)
        finally:
            self._away = verdicts is None
            if verdicts is None:
                self._give_up(takes, returns)
        return verdicts is not None

    def _give_up(self, takes: list[Take], returns: list[tuple[str, int, int]]) -> None:
        """Lets all who wait go on uncounted, whatever it was that went wrong: none may wait for ever.

        What was asked may have been done: nothing is added or taken off a second time, but what ended has ended.
        """
        over = [(attempt, 0, 0) for attempt, _, _ in (*takes, *returns)]
        self._returns = [*over, *self._returns][:_MOST_RETURNS]
        waiting, self._takes = takes + self._takes, []
        _tell(waiting, [None] * len(waiting))


def _tell(takes: list[Take], verdicts: Sequence[Verdict | None]) -> None:
    for (_, _, future), verdict in zip(takes, verdicts, strict=True):
        if not future.done():
            future.set_result(verdict)
