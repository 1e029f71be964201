"""The audit chain."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from clocks import SetClock
from redis.asyncio import Redis

from gateway.admin.audit import STREAM, Audit
from gateway.callers.caller import bootstrap_caller
from gateway.callers.keys import Pepper
from gateway.callers.roles import Role

ACTOR = bootstrap_caller("main", "bootstrapadm", Role.ADMIN)
PEPPER = Pepper(b"a pepper for the tests")


@pytest.fixture
def audit(store: Redis, clock: SetClock) -> Audit:
    return Audit(store, PEPPER, clock)


async def note(audit: Audit, target: str = "x") -> None:
    await audit.append(ACTOR, "key.update", target, request_id="req_1", ip="127.0.0.1")


async def test_entries_come_newest_first_and_the_chain_holds(audit: Audit) -> None:
    """What was appended is there, counted without a gap."""
    for target in "abc":
        await note(audit, target)
    assert [(e.seq, e.target) for e in await audit.entries("main", 2)] == [(3, "c"), (2, "b")]
    verdict = await audit.verify()
    assert (verdict.ok, verdict.entries) == (True, 3)


async def test_an_empty_chain_holds(audit: Audit) -> None:
    """Nothing happened, nothing is wrong."""
    assert (await audit.verify()).ok


async def test_writers_at_once_make_one_chain(store: Redis, clock: SetClock) -> None:
    """Several replicas append without losing or forking."""
    replicas = [Audit(store, PEPPER, clock) for _ in range(4)]
    await asyncio.gather(*(note(replica, str(n)) for n in range(5) for replica in replicas))
    verdict = await replicas[0].verify()
    assert (verdict.ok, verdict.entries) == (True, 20)


async def test_a_long_chain_is_followed_page_by_page(audit: Audit, store: Redis) -> None:
    """More entries than one page."""
    for n in range(600):
        await note(audit, str(n))
    assert (await audit.verify()).entries == 600
    assert len(await audit.entries("main", 550)) == 550
    assert await audit.entries("other", 5) == []
    assert await store.xlen(STREAM) == 600


@pytest.mark.parametrize("harm", ["change", "remove", "remove_last", "insert", "swap", "rehash", "behead"])
async def test_whatever_is_done_to_the_stream_is_found(audit: Audit, store: Redis, harm: str) -> None:
    """Changed, removed, inserted, swapped entries, and a chain made anew without the pepper."""
    for target in "abcd":
        await note(audit, target)
    stream = await store.xrange(STREAM)
    rows = [dict(fields) for _, fields in stream]
    if harm == "change":
        rows[1][b"entry"] = rows[1][b"entry"].replace(b'"b"', b'"z"')
    elif harm == "remove":
        del rows[1]
    elif harm == "remove_last":
        del rows[3]
    elif harm == "insert":
        rows.insert(2, rows[1])
    elif harm == "swap":
        rows[1], rows[2] = rows[2], rows[1]
    await store.delete(STREAM)
    for row in rows:
        await store.xadd(STREAM, row)
    if harm == "rehash":
        forger = Audit(store, Pepper(b"q" * 16), SetClock(1.0))
        await store.delete(STREAM, "{audit}:head")
        for target in "abcd":
            await note(forger, target)
    if harm == "behead":
        await store.hset("{audit}:head", "hash", "0" * 64)
    verdict = await audit.verify()
    assert not verdict.ok
    assert verdict.problem


async def test_every_change_of_a_key_is_audited_before_it_happens(admin: Any) -> None:
    """Who, what, to what, from where; secrets in no entry; each state linked to the next by hash."""
    key, key_id = await admin.key()
    await admin("PATCH", f"/admin/api/keys/{key_id}", {"rpm": 5})
    rotated = await admin("POST", f"/admin/api/keys/{key_id}/rotate")
    await admin("DELETE", f"/admin/api/keys/{key_id}")
    answer = await admin("GET", "/admin/api/audit")
    entries = answer.json["data"][::-1]
    assert [e["action"] for e in entries] == ["key.create", "key.update", "key.rotate", "key.revoke"]
    assert {e["target"] for e in entries} == {key_id}
    assert {(e["actor"], e["ip"], e["outcome"]) for e in entries} == {("bootstrapadm", "127.0.0.1", "done")}
    assert entries[0]["before"] == ""
    assert [e["before"] for e in entries[1:]] == [e["after"] for e in entries[:-1]]
    assert key not in answer.text
    assert rotated.json["key"] not in answer.text
    assert (await admin("GET", "/admin/api/audit/verify")).json["ok"] is True
    assert len((await admin("GET", "/admin/api/audit?limit=1")).json["data"]) == 1


async def test_a_refused_change_is_not_audited(admin: Any) -> None:
    """The stream holds changes, not tries that were turned away at the door."""
    await admin("POST", "/admin/api/keys", {"nome": "x"})
    await admin("POST", "/admin/api/keys", {"name": "x"}, token="wrong")
    assert (await admin("GET", "/admin/api/audit")).json == {"data": []}
