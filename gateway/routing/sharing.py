"""What replicas tell each other of deployments: who is open, resting or set aside, and what was measured.

One script call a second, and at once where there is news, in the background. Ends are told as time left and kept by the
store's clock, so the replicas' own clocks do not matter. While the store is away each replica knows what it sees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from secrets import token_hex
from typing import Any

import msgspec
from msgspec import Struct
from redis.exceptions import RedisError

from gateway.background import Repeated
from gateway.log import get_logger
from gateway.routing.health import Breakers, News, What
from gateway.routing.outliers import Outliers
from gateway.routing.stats import FORGOTTEN_AFTER_S, Statistics
from gateway.storage.client import Store
from gateway.types import Stats

_TROUBLES = "{routing}:troubles"
_STATISTICS = "{routing}:statistics"
_EVERY_S = 1.0
_STATISTICS_EVERY = 5
"""Rounds: measurements do not hurry."""
_KEPT_S = 7200
_MOST_TOLD = 1000
"""Troubles of one round; what would be more is told in the next."""

_TROUBLES_LUA = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
for i = 2, #ARGV, 2 do
  redis.call('ZADD', KEYS[1], 'GT', string.format('%.0f', now + tonumber(ARGV[i])), ARGV[i + 1])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
redis.call('EXPIRE', KEYS[1], ARGV[1])
return {now, redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')}
"""
"""ARGV: seconds that the set is kept, then for each trouble the milliseconds left of it and what it is."""

_STATISTICS_LUA = """
local now = tonumber(redis.call('TIME')[1])
local first, forgotten = 4 + tonumber(ARGV[3]), {}
for i = 4, first - 1 do forgotten[ARGV[i]] = true end
local kept, gone = {}, {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local at, said = string.match(all[i + 1], '^(%d+) (.*)$')
  local name = string.match(all[i], ' (.*)$')
  if at == nil or now - tonumber(at) >= tonumber(ARGV[2]) or forgotten[name or ''] then
    gone[#gone + 1] = all[i]
  else
    kept[#kept + 1] = all[i]
    kept[#kept + 1] = said
  end
end
for i = 1, #gone do redis.call('HDEL', KEYS[1], gone[i]) end
for i = first, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[i], string.format('%.0f', now) .. ' ' .. ARGV[i + 1])
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
return kept
"""
"""ARGV: seconds that the hash is kept, seconds that a measurement counts, how many deployments to forget, which, then
each measurement with its name before it. What was said before is answered, by `replica deployment`."""

log = get_logger("health")


class Trouble(Struct, array_like=True, frozen=True):
    """One replica's word on a deployment, or on a provider for its credential."""

    replica: str
    subject: str
    what: What
    reason: str


_encode = msgspec.json.Encoder().encode
_trouble = msgspec.json.Decoder(Trouble)
_stats = msgspec.json.Decoder(Stats)


class SharedHealth:
    """Looks for outliers, tells what happened here, and takes up what others tell.

    `clock` gives monotonic seconds.
    """

    def __init__(
        self,
        store: Store,
        breakers: Breakers,
        statistics: Statistics,
        outliers: Outliers,
        clock: Callable[[], float],
    ) -> None:
        self._store: Any = store
        self._breakers = breakers
        self._statistics = statistics
        self._outliers = outliers
        self._clock = clock
        self._replica = token_hex(6)
        self._unsaid: dict[tuple[str, What], News] = {}
        self._unsaid_stats: dict[str, Stats] = {}
        self._unsaid_forgotten: set[str] = set()
        self._rounds = 0
        self._away = False
        self._repeated = Repeated("shared-health", _EVERY_S, self.step)
        breakers.on_news = self._repeated.hurry

    async def start(self) -> None:
        """Learns what others know, then keeps at it in the background."""
        await self.step()
        await self._repeated.start()

    async def close(self) -> None:
        await self._repeated.close()

    async def step(self) -> None:
        """One round. A store that is away delays what it has to say and nothing else."""
        self._outliers.look()
        try:
            await self._share_troubles()
            if self._rounds % _STATISTICS_EVERY == 0:
                await self._share_statistics()
            self._rounds += 1
        except (RedisError, OSError) as error:
            if not self._away:
                log.warning("health_not_shared", error=type(error).__name__)
            self._away = True
        else:
            self._away = False

    async def _share_troubles(self) -> None:
        self._unsaid |= self._breakers.take_news()
        now = self._clock()
        said = [item for item in self._unsaid.items() if item[1].until > now][:_MOST_TOLD]
        words: list[Any] = [_KEPT_S]
        for (subject, what), news in said:
            words += [int((news.until - now) * 1000), _encode(Trouble(self._replica, subject, what, news.reason))]
        now_ms, found = await self._store.eval(_TROUBLES_LUA, 1, _TROUBLES, *words)
        for key, news in said:
            if self._unsaid.get(key) is news:
                del self._unsaid[key]
        self._unsaid = {key: news for key, news in self._unsaid.items() if news.until > now}
        for member, until_ms in _pairs(found):
            try:
                trouble = _trouble.decode(member)
            except msgspec.DecodeError:  # of a version that knows more kinds
                continue
            if trouble.replica != self._replica:
                left_s = (float(until_ms) - now_ms) / 1000
                self._breakers.hear(trouble.subject, trouble.what, left_s, trouble.reason)

    async def _share_statistics(self) -> None:
        forgotten, measured = self._unsaid_forgotten, self._unsaid_stats
        for name in self._statistics.take_forgotten():
            forgotten.add(name)
            measured.pop(name, None)
        measured |= self._statistics.take_changed()
        words: list[Any] = [_KEPT_S, int(FORGOTTEN_AFTER_S), len(forgotten), *forgotten]
        for name, stats in measured.items():
            words += [f"{self._replica} {name}", _encode(stats)]
        found = await self._store.eval(_STATISTICS_LUA, 1, _STATISTICS, *words)
        forgotten.clear()
        measured.clear()
        heard: dict[str, list[Stats]] = {}
        for field, said in _pairs(found):
            replica, _, name = field.decode().partition(" ")
            if replica != self._replica:
                try:
                    stats = _stats.decode(said)
                except msgspec.DecodeError:
                    continue
                heard.setdefault(name, []).append(stats)
        self._statistics.hear(heard)


def _pairs(flat: Sequence[Any]) -> zip[tuple[Any, Any]]:
    return zip(flat[::2], flat[1::2], strict=True)
