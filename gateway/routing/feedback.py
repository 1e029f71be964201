"""What apps say of answers, kept beside the requests for the experiments' report."""

from __future__ import annotations

from collections.abc import AsyncIterator
from time import gmtime, strftime
from typing import Any

import msgspec
from msgspec import Struct

from gateway.storage.client import Store

MOST_A_DAY = 100_000
"""Requests of one tenant and day that can have feedback."""
_KEPT_S = 90 * 86_400
_PAGE = 500

# KEYS the day; ARGV request id, opinion, most, seconds kept
_PUT = """
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1
"""


class Opinion(Struct, frozen=True):
    """What was said of one request; saying more replaces it."""

    at: float
    """When it was said, seconds since the epoch."""
    arms: dict[str, str]
    """The request's arm by experiment."""
    score: float | None = None
    """From -1 (bad) to 1 (good)."""
    label: str | None = None
    comment: str | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Opinion).decode


class Feedback:
    """Opinions by tenant and day. The methods may raise `redis.exceptions.RedisError`."""

    def __init__(self, store: Store) -> None:
        self._store: Any = store

    async def put(self, tenant: str, request_id: str, requested_at: float, opinion: Opinion) -> bool:
        """Keeps an opinion for 90 days; False where its day has too many already."""
        name = _name(tenant, strftime("%Y%m%d", gmtime(requested_at)))
        arguments = (request_id, _encode(opinion), MOST_A_DAY, _KEPT_S)
        return bool(await self._store.execute_command("EVAL", _PUT, 1, name, *arguments))

    async def of(self, tenant: str, days: list[str]) -> AsyncIterator[Opinion]:
        """Every opinion on requests of these days (as `20261121`)."""
        for day in days:
            seen: set[bytes] = set()  # a scan may come by the same one twice
            cursor: int | None = None
            while cursor != 0:
                cursor, page = await self._store.hscan(_name(tenant, day), cursor or 0, count=_PAGE)
                for request_id, text in page.items():
                    if request_id not in seen:
                        seen.add(request_id)
                        yield _decode(text)


def _name(tenant: str, day: str) -> str:
    return f"{{t:{tenant}}}:feedback:{day}"
