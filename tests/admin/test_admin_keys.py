"""Keys over the admin API."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from admin_api import ADMIN

from gateway.errors import GatewayError

KEYS = "/admin/api/keys"


async def accepted(admin: Any, key: str) -> bool:
    """Whether the gateway knows this key."""
    try:
        await admin.opened.callers.identify(b"Bearer " + key.encode(), "127.0.0.1")
    except GatewayError:
        return False
    return True


async def test_a_key_is_shown_once_and_works_with_what_it_was_given(admin: Any) -> None:
    """POST tells the secret, GET never; every field of the contract comes back as it was sent."""
    fields = {
        "name": "search backend",
        "team": "search",
        "tags": {"env": "prod"},
        "tiers": ["fast"],
        "budget": {"usd": "12.5", "per": "day", "hard": True, "on_store_down": "local"},
        "rpm": 60,
        "tpm": 100_000,
        "concurrency": 4,
        "rates_on_store_down": "deny",
        "expires_at": "2027-01-31T00:00:00Z",
        "role": "app",
    }
    made = await admin("POST", KEYS, fields)
    assert made.status == 201
    shown = await admin("GET", f"{KEYS}/{made.json['id']}")
    assert {name: shown.json[name] for name in fields} == fields
    assert shown.json["status"] == "active"
    assert shown.json["created_by"] == "bootstrapadm"
    listed = await admin("GET", KEYS)
    assert listed.json == {"data": [shown.json]}
    assert made.json["key"] not in shown.text + listed.text
    caller = await admin.opened.callers.identify(b"Bearer " + made.json["key"].encode(), None)
    assert (caller.team, caller.tiers, caller.tags) == ("search", {"fast"}, (("env", "prod"),))
    assert caller.limits.budgets[0].limit_nano == 12_500_000_000
    assert {cap.on_store_down for cap in (*caller.limits.rpm, *caller.limits.tpm, *caller.limits.concurrency)} == {
        "deny"
    }


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ('{"name": "a", "name": "b"}', "name"),
        ('{"name": "a", "budget": {"usd": "1", "per": "day", "usd": "100"}}', "usd"),
        ('{"name": "a", "tags": {"env": "x", "\\u0065nv": "y"}}', "env"),
    ],
)
async def test_what_is_said_twice_is_refused(admin: Any, body: str, name: str) -> None:
    """Nobody can know which was meant."""
    answer = await admin("POST", KEYS, raw=body.encode())
    assert (answer.status, answer.error["param"]) == (400, name)
    assert "more than once" in answer.error["message"]
    assert (await admin("GET", KEYS)).json == {"data": []}


@pytest.mark.parametrize(
    ("fields", "warnings"),
    [
        ({"tiers": ["fast"], "models": ["alpha", "one/beta"], "denied_models": ["beta"]}, []),
        ({"tiers": ["fsat"]}, ["the catalog has no tier 'fsat'; did you mean 'fast'?"]),
        ({"tiers": ["alpha"]}, ["the catalog has no tier 'alpha'"]),
        ({"models": ["alhpa"]}, ["the catalog has no model 'alhpa'; did you mean 'alpha'?"]),
        ({"denied_models": ["one/beat"]}, ["the catalog has no model 'one/beat'; did you mean 'one/beta'?"]),
        ({"denied_models": ["fast"]}, ["the catalog has no model 'fast'"]),
        ({"expires_at": "2020-01-01"}, ["the key has expired already"]),
        ({"models": [f"zz{n}" for n in range(50)]}, [f"the catalog has no model 'zz{n}'" for n in range(20)]),
    ],
)
async def test_what_can_have_no_effect_is_warned_of(admin: Any, fields: dict[str, Any], warnings: list[str]) -> None:
    """When a key is made and when it is changed; the catalog may have the name soon, so nothing is refused."""
    made = await admin("POST", KEYS, {"name": "k", **fields})
    assert (made.status, made.json["warnings"]) == (201, warnings)
    changed = await admin("PATCH", f"{KEYS}/{made.json['id']}", {"rpm": 5})
    assert (changed.status, changed.json["warnings"]) == (200, warnings)
    assert "warnings" not in (await admin("GET", f"{KEYS}/{made.json['id']}")).json


async def test_a_change_keeps_what_it_does_not_name_and_holds_at_once(admin: Any) -> None:
    """PATCH with null takes a limit away."""
    key, key_id = await admin.key(rpm=5, tpm=7, tiers=["fast"], budget={"usd": 1, "per": "total"})
    assert await accepted(admin, key)
    changed = await admin("PATCH", f"{KEYS}/{key_id}", {"rpm": None, "name": "renamed", "tiers": ["smart"]})
    assert changed.status == 200
    assert (changed.json["rpm"], changed.json["tpm"], changed.json["name"]) == (None, 7, "renamed")
    assert changed.json["budget"] == {"usd": "1", "per": "total", "hard": True, "on_store_down": "deny"}
    caller = await admin.opened.callers.identify(b"Bearer " + key.encode(), None)
    assert (caller.tiers, caller.limits.rpm) == ({"smart"}, ())


async def test_a_revoked_key_stops_here_at_once_and_for_good(admin: Any) -> None:
    """DELETE keeps the record for reports, but nothing brings the key back."""
    key, key_id = await admin.key()
    assert await accepted(admin, key)
    revoked = await admin("DELETE", f"{KEYS}/{key_id}")
    assert (revoked.status, revoked.json["status"]) == (200, "revoked")
    assert not await accepted(admin, key)
    assert (await admin("DELETE", f"{KEYS}/{key_id}")).json == revoked.json
    assert (await admin("PATCH", f"{KEYS}/{key_id}", {"name": "again"})).status == 400
    assert (await admin("POST", f"{KEYS}/{key_id}/rotate")).status == 400


async def test_rotation_keeps_the_former_secret_for_the_overlap(admin: Any) -> None:
    """Two secrets at most, the former one for as long as was said."""
    first, key_id = await admin.key()
    second = await admin("POST", f"{KEYS}/{key_id}/rotate", {"overlap_s": 60})
    assert second.status == 200
    assert second.json["id"] == key_id
    assert second.json["rotation_ends_at"] == "2026-11-21T00:01:00Z"
    assert await accepted(admin, first)
    assert await accepted(admin, second.json["key"])
    third = await admin("POST", f"{KEYS}/{key_id}/rotate", {"overlap_s": 0})
    assert [await accepted(admin, key) for key in (first, second.json["key"], third.json["key"])] == [
        False,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "a\r\nb"}, "name"),
        ({"name": "a", "rolle": "admin"}, "rolle"),
        ({"name": "a", "role": "root"}, "role"),
        ({"name": "a", "tenant": "a}b"}, "tenant"),
        ({"name": "a", "key_id": "abcdefghijkl"}, "key_id"),
        ({"name": "a", "rpm": 0}, "rpm"),
        ({"name": "a", "rpm": "60"}, "rpm"),
        ({"name": "a", "rpm": 10**30}, "rpm"),
        ({"name": "a", "budget": {"usd": "-1", "per": "day"}}, "budget.usd"),
        ({"name": "a", "budget": {"usd": "9000001", "per": "day"}}, "budget.usd"),
        ({"name": "a", "budget": {"usd": "0.0000000001", "per": "day"}}, "budget.usd"),
        ({"name": "a", "budget": {"usd": "NaN", "per": "day"}}, "budget.usd"),
        ({"name": "a", "budget": {"usd": "1", "per": "week"}}, "budget.per"),
        ({"name": "a", "budget": [{"usd": "1", "per": "day"}, {"usd": "2", "per": "day"}]}, "budget"),
        ({"name": "a", "tags": {"a{b}": "x"}}, "tags.a{b}"),
        ({"name": "a", "tags": {"a": "x:*"}}, "tags.a"),
        ({"name": "a", "team": "x\ny"}, "team"),
        ({"name": "a", "cidrs": ["10.0.0.1/8"]}, "cidrs.0"),
        ({"name": "a", "expires_at": 1_900_000_000}, "expires_at"),
        ({"name": "a", "expires_at": "2027-01-31T00:00:00"}, "expires_at"),
        ({"name": "a", "expires_at": "0001-01-01T00:00:00+23:59"}, "expires_at"),
        ({"name": "a", "not_before": "2027-02-01", "expires_at": "2027-01-01"}, "expires_at"),
    ],
)
async def test_a_body_that_is_not_understood_names_its_field(admin: Any, body: dict[str, Any], param: str) -> None:
    """400 in OpenAI's form, and nothing is made."""
    answer = await admin("POST", KEYS, body)
    assert answer.status == 400
    assert (answer.error["param"], answer.error["type"]) == (param, "invalid_request_error")
    assert (await admin("GET", KEYS)).json == {"data": []}


BROKEN = [
    b"{",
    b"[]",
    b"nul",
    b'{"name":"\\ud800"}',
    b"[" * 100_000,
    b'{"name":1e400}',
    b'{"rpm":' + b"9" * 5000 + b"}",
]


@pytest.mark.parametrize("raw", BROKEN)
async def test_what_is_no_json_object_is_refused(admin: Any, raw: bytes) -> None:
    """Broken, deep and endless JSON is a 400, never a 500."""
    assert (await admin("POST", KEYS, raw=raw)).status == 400


async def test_a_huge_body_is_refused(admin: Any) -> None:
    """413 from one MiB on."""
    assert (await admin("POST", KEYS, raw=b" " * (1024 * 1024 + 1))).status == 413


@pytest.mark.parametrize("key_id", ["zzzzzzzzzzzz", "..%2f..", "a{b}c", "%0d%0a", "bootstrapapp*"])
async def test_an_unknown_key_id_is_not_found(admin: Any, key_id: str) -> None:
    """Whatever it is made of."""
    for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/rotate")):
        assert (await admin(method, f"{KEYS}/{key_id}{path}")).status == 404


async def test_two_changes_at_once_do_not_overwrite_each_other(admin: Any) -> None:
    """Each either holds or is told that it does not."""
    _, key_id = await admin.key()
    answers = await asyncio.gather(*(admin("PATCH", f"{KEYS}/{key_id}", {"rpm": n}) for n in range(1, 9)))
    statuses = sorted(a.status for a in answers)
    assert set(statuses) <= {200, 409}
    record = await admin.opened.records.load("main", key_id)
    assert record.version == 1 + statuses.count(200)


async def test_a_minted_key_reaches_no_further_than_its_minter(admin: Any) -> None:
    """An admin confined to a tier cannot make a key for all of them, nor widen or rotate one."""
    confined, _ = await admin.key(role="admin", tiers=["fast"], expires_at="2027-01-01", cidrs=["127.0.0.0/8"])
    good = {"name": "b", "tiers": ["fast"], "expires_at": "2026-12-01", "cidrs": ["127.0.0.0/16"]}
    made = await admin("POST", KEYS, good, token=confined)
    assert made.status == 201
    too_far = [
        {"tiers": None},
        {"tiers": ["fast", "smart"]},
        {"expires_at": None},
        {"expires_at": "2027-01-02"},
        {"cidrs": []},
        {"cidrs": ["0.0.0.0/0"]},
        {"cidrs": ["::/0"]},
    ]
    for change in too_far:
        for method, path in (("POST", KEYS), ("PATCH", f"{KEYS}/{made.json['id']}")):
            answer = await admin(method, path, {**good, **change}, token=confined)
            assert (answer.status, answer.error["param"]) == (403, next(iter(change)))
    _, wider = await admin.key()
    assert (await admin("POST", f"{KEYS}/{wider}/rotate", token=confined)).status == 403


async def test_an_admin_key_with_limits_makes_no_keys(admin: Any) -> None:
    """Its limits would not bind what it makes."""
    limited, _ = await admin.key(role="admin", budget={"usd": 1, "per": "day"})
    assert (await admin("POST", KEYS, {"name": "b"}, token=limited)).status == 403


async def test_the_installations_token_founds_tenants_and_then_sees_nothing_of_them(admin: Any) -> None:
    """It makes their first admin; that admin's keys are its own, and no other admin may reach across."""
    founded = await admin("POST", KEYS, {"name": "their admin", "role": "admin", "tenant": "acme"})
    assert founded.status == 201
    theirs = await admin("POST", KEYS, {"name": "their app"}, token=founded.json["key"])
    assert theirs.json["key"].startswith("gw1_acme_")
    assert (await admin("GET", KEYS)).json == {"data": []}
    ours, _ = await admin.key(role="admin")
    reaching = ((ADMIN, "app", "acme"), (ours, "admin", "acme"), (founded.json["key"], "admin", "main"))
    for token, role, tenant in reaching:
        answer = await admin("POST", KEYS, {"name": "x", "role": role, "tenant": tenant}, token=token)
        assert (answer.status, answer.error["param"]) == (403, "tenant")
