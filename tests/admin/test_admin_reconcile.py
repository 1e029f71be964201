"""Bills over the admin API: who may import them, what is refused, what is kept of an import."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from books import COST, attempt, flushed, open_ledger, settle
from redis.asyncio import Redis

from gateway.ledger.exchange import tag

IMPORT = "/admin/api/reconcile/import"


async def booked(store: Redis, folder: Path) -> str:
    async with open_ledger(store, folder / "ledger") as ledger:
        a = attempt()
        ledger.begin(a)
        settle(ledger, a)
        await flushed(ledger)
    return a.aid


async def test_a_bill_corrects_and_is_remembered(admin: Any, store: Redis, tmp_path: Path) -> None:
    """Dollars are exact to the nano; the import is in the list and in the audit."""
    row = {"attempt_id": await booked(store, tmp_path), "cost_usd": "0.0001100014"}
    finance, _ = await admin.key(role="finance")
    answer = await admin("POST", IMPORT, {"name": "november", "rows": [row]}, token=finance)
    assert answer.status == 200, answer.text
    assert (answer.json["corrected"], answer.json["groups"][0]["billed_nano"]) == (1, COST + 1)
    (run,) = (await admin("GET", "/admin/api/reconcile", token=finance)).json["data"]
    assert (run["name"], run["corrected"], run["booked_after_nano"]) == ("november", 1, COST + 1)
    assert (await admin("GET", "/admin/api/audit")).json["data"][0]["action"] == "reconcile.import"


async def test_a_whole_bill_closes_its_period(admin: Any, store: Redis, tmp_path: Path) -> None:
    """Nothing is left of estimates; a period that ends before it begins is refused."""
    period = {"provider": "acme", "from": "2026-11-01", "to": "2026-12-01"}
    assert (await admin("POST", "/admin/api/reconcile/close", period)).json["corrected"] == 0
    wrong = await admin("POST", "/admin/api/reconcile/close", {**period, "to": "2026-11-01"})
    assert (wrong.status, wrong.error["param"]) == (400, "to")


@pytest.mark.parametrize(
    ("row", "param"),
    [
        ({"attempt_id": "x\n", "cost_usd": "1"}, "rows.0.attempt_id"),
        ({"attempt_id": "0" * 32, "cost_usd": "-1"}, "rows.0.cost_usd"),
        ({"attempt_id": "0" * 32, "cost_usd": "1", "usage": {"tokens": 1}}, "rows.0.usage.tokens"),
        ({"attempt_id": "0" * 32, "cost_usd": "1", "usage": {"input": -1}}, "rows.0.usage.input"),
        ({"provider": "acme", "cost_usd": "1"}, "rows.0"),
        ({"attempt_id": "0" * 32}, "rows.0.cost_usd"),
    ],
)
async def test_a_bad_row_is_named(admin: Any, row: dict[str, Any], param: str) -> None:
    """By its place."""
    answer = await admin("POST", IMPORT, {"name": "b", "rows": [row]})
    assert (answer.status, answer.error["param"]) == (400, param)


@pytest.mark.parametrize("attempt_id", ["x", "0" * 32, "6f1c2a3e-0d1b-4a58-9a51-0d9bb2a0c1de", "й" * 128])
async def test_what_another_client_was_billed_is_unknown(admin: Any, attempt_id: str) -> None:
    """Whatever its ids look like: it is listed, and the rest of the bill is looked at."""
    answer = await admin("POST", IMPORT, {"name": "b", "rows": [{"attempt_id": attempt_id, "cost_usd": "1"}]})
    assert (answer.status, answer.json["unknown"], answer.json["unknown_rows"]) == (200, 1, [attempt_id])


async def test_a_day_that_does_not_exist_is_refused(admin: Any) -> None:
    """As a bad request."""
    row = {"provider": "acme", "model": "m1", "day": "2026-02-31", "cost_usd": "1"}
    assert (await admin("POST", IMPORT, {"name": "b", "rows": [row]})).status == 400


async def test_two_imports_at_once_are_told_apart(admin: Any, store: Redis) -> None:
    """The second gets 409, and the audit does not say that it was done."""
    await store.set(tag("main") + "correcting", "another")
    answer = await admin("POST", IMPORT, {"name": "b", "rows": [{"attempt_id": "0" * 32, "cost_usd": "1"}]})
    assert (answer.status, answer.error["code"]) == (409, "conflict")
    assert (await admin("GET", "/admin/api/audit")).json["data"][0]["outcome"] == "failed"


@pytest.mark.parametrize("role", ["app", "ops"])
async def test_others_may_not(admin: Any, role: str) -> None:
    """Correcting the books is finance's and the admins'."""
    key, _ = await admin.key(role=role)
    body = {"name": "b", "rows": [{"attempt_id": "0" * 32, "cost_usd": "1"}]}
    assert (await admin("POST", IMPORT, body, token=key)).status == 403
