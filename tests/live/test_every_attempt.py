"""Whatever happens to a request, each attempt that a provider saw is in the books exactly once."""

from __future__ import annotations

import contextlib
import http.client
import random
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import answers
import pytest
from fakes import End, Reply, Seen, error_reply, eventually, json_reply, stream_reply
from running import RunningGateway
from scenes import Scene
from talk import CHAT, HELLO, Talk, admin, entries_at, key_with

REQUESTS, AT_ONCE = 200, 8
COMPLETE_NANO = 9 * 1_000 + 3 * 2_000
"""What a good answer of the fake provider costs."""


def fate(seen: Seen, chance: random.Random) -> Reply:
    """What becomes of one attempt."""
    streams = bool(seen.body.get("stream"))
    good = stream_reply(answers.chunks("One two three"), gap=0.002) if streams else json_reply(answers.completion())
    return chance.choices(
        [
            good,
            error_reply(500),
            error_reply(503),
            error_reply(429, "rate_limit_exceeded", retry_after="0"),
            error_reply(400, "bad"),
            good.cut_at(chance.randrange(1, 900)),
            good.cut_at(chance.randrange(1, 900), End.CLOSE),
            Reply(steps=[0.3, End.RESET]),
        ],
        weights=[60, 5, 5, 5, 5, 10, 5, 5],
    )[0]


def ask(gateway: RunningGateway, key: str, tier: str, chance: random.Random) -> None:
    """One caller: most wait for the end, some go early, some at once."""
    patience = chance.choice([None, None, None, 0.0, 0.005, 0.1])
    with Talk(gateway, key) as talk, contextlib.suppress(OSError, http.client.HTTPException):
        talk.send(CHAT, {"model": tier, "messages": HELLO, "stream": chance.random() < 0.6})
        if patience is None:
            talk.receive()
        else:
            talk.connection.sock.settimeout(max(patience, 0.001))
            talk.connection.getresponse().read(200)


def _rows(gateway: RunningGateway, deployment: str, ids: set[str]) -> dict[str, dict[str, Any]]:
    """A deployment's entries by attempt id; none before all of these are there."""
    rows = {row["attempt_id"]: row for row in entries_at(gateway, deployment, len(ids), or_more=True)}
    return rows if rows.keys() >= ids else {}


@pytest.mark.parametrize("budget_usd", [None, 5])
def test_every_attempt_is_booked_once(gateway: RunningGateway, scene: Scene, budget_usd: int | None) -> None:
    """The attempt ids that the providers saw are those of the entries; reports and budgets are their sum."""
    seed = budget_usd or 1
    fates = random.Random(seed)
    limits = {} if budget_usd is None else {"budget": {"usd": str(budget_usd), "per": "total", "hard": True}}
    key = key_with(gateway, **limits)
    for name in (scene.first, scene.second):
        scene.fake.script(name, *[lambda seen: fate(seen, fates)] * REQUESTS * 3)
    callers = [random.Random(seed * 1_000 + number) for number in range(REQUESTS)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda chance: ask(gateway, key, scene.tier, chance), callers))
    assert eventually(lambda: all(request.over for request in scene.requests + scene.second_requests))

    booked: dict[str, dict[str, Any]] = {}
    for deployment, requests in (
        (scene.first_deployment, scene.requests),
        (scene.second_deployment, scene.second_requests),
    ):
        seen = [request.headers["x-client-request-id"] for request in requests]
        assert len(seen) == len(set(seen))
        rows = eventually(lambda at=deployment, ids=set(seen): _rows(gateway, at, ids))
        unseen = [rows[attempt] for attempt in rows.keys() - set(seen)]
        written = "caller_left", "estimated" if budget_usd is None else "held"  # but given up before it was read
        unsent = "void", "provider"  # given up while the provider was being connected to
        assert {(row["settlement"], row["usage_source"]) for row in unseen} <= {written, unsent}
        booked |= rows
    told = [row for row in booked.values() if row["settlement"] == "complete"]
    assert told
    assert {row["cost_nano_usd"] for row in told} == {COMPLETE_NANO}
    assert all(row["cost_nano_usd"] == 0 for row in booked.values() if row["settlement"] == "void")

    report = admin(gateway, "/report?by=tier").body["rows"]
    (row,) = [row for row in report if row["tier"] == scene.tier]
    total = sum(entry["cost_nano_usd"] for entry in booked.values())
    assert Decimal(row["cost_usd"]) == Decimal(total).scaleb(-9)
    if budget_usd is not None:
        spent = Decimal(total).scaleb(-9)

        def only_its_own_is_held() -> bool:
            nonlocal spent
            time.sleep(0.4)  # asked more often, it would draw slabs of its own, and see them held
            scene.fake.script("open", json_reply(answers.completion()))
            with Talk(gateway, key) as talk:
                answer = talk.ask(CHAT, {"model": "open-model", "messages": HELLO, "max_tokens": 1})
            left = Decimal(answer.headers["x-gateway-budget"].rpartition("left_usd=")[2])
            held = Decimal(budget_usd) - spent - left
            spent += Decimal(answer.headers["x-gateway-cost-usd"])
            return 0 < held < Decimal("0.001")

        assert eventually(only_its_own_is_held)  # once the last slab of the budget has gone back
