"""Who may do what over the admin API."""

from __future__ import annotations

import asyncio
import http.client
from typing import Any
from urllib.parse import urlsplit

import pytest
from admin_api import ADMIN, APP
from starlette.routing import Route

from gateway.admin.guard import Guarded
from gateway.admin.operation import Operation
from gateway.admin.routes import OPERATIONS, admin_routes
from gateway.callers.roles import PERMISSIONS, Permission, Role

BY_NAME = {f"{op.method} {op.path}": op for op in OPERATIONS}


def path_of(op: Operation[Any, Any]) -> str:
    query = {"/admin/api/explain": "?request_id=req_known"}.get(op.path, "") if op.method == "GET" else ""
    return op.path.replace("{key_id}", "zzzzzzzzzzzz") + query


async def status_of(url: str, path: str, *headers: tuple[str, str]) -> int:
    """The status of a GET whose path and headers go out exactly as given."""

    def ask() -> int:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
        connection.putrequest("GET", path)
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders()
        status = connection.getresponse().status
        connection.close()
        return status

    return await asyncio.to_thread(ask)


@pytest.mark.parametrize("name", BY_NAME)
async def test_each_role_may_use_exactly_what_its_row_grants(admin: Any, name: str) -> None:
    """Every operation with every role: 403 unless its permission is granted."""
    op = BY_NAME[name]
    for role in Role:
        key, _ = await admin.key(role=role)
        answer = await admin(op.method, path_of(op), token=key)
        granted = op.permission in PERMISSIONS[role]
        assert (answer.status != 403) == granted, (role, answer.text)
        assert answer.status not in (401, 500)
        if not granted:
            assert answer.error["type"] == "permission_error"


@pytest.mark.parametrize("name", BY_NAME)
async def test_nobody_gets_in_without_a_key(admin: Any, name: str) -> None:
    """No key and a wrong key: 401 with OpenAI's error object, never cached."""
    op = BY_NAME[name]
    for token in (None, "wrong", ADMIN + "x"):
        answer = await admin(op.method, path_of(op), token=token)
        assert answer.status == 401
        assert answer.error["code"] == "invalid_api_key"
        assert answer.headers["cache-control"] == "no-store"


async def test_apps_and_finance_mint_no_keys(admin: Any) -> None:
    """The bootstrap app key and a finance key are refused."""
    finance, _ = await admin.key(role="finance")
    for token in (APP, finance):
        answer = await admin("POST", "/admin/api/keys", {"name": "mine"}, token=token)
        assert (answer.status, answer.error["code"]) == (403, "forbidden")


async def test_ops_stop_keys_but_not_an_admins(admin: Any) -> None:
    """Revoking is for emergencies; an admin's key takes an admin."""
    ops, _ = await admin.key(role="ops")
    _, app_id = await admin.key()
    _, admin_id = await admin.key(role="admin")
    assert (await admin("DELETE", f"/admin/api/keys/{app_id}", token=ops)).status == 200
    assert (await admin("DELETE", f"/admin/api/keys/{admin_id}", token=ops)).status == 403


async def test_a_revoked_admin_is_out(admin: Any) -> None:
    """From one request to the next."""
    key, key_id = await admin.key(role="admin")
    assert (await admin("GET", "/admin/api/keys", token=key)).status == 200
    await admin("DELETE", f"/admin/api/keys/{key_id}")
    assert (await admin("GET", "/admin/api/keys", token=key)).status == 401


@pytest.mark.parametrize(
    "path",
    [
        "//admin/api/keys",
        "/admin//api/keys",
        "/v1/../admin/api/keys",
        "/admin/api/../api/keys",
        "/%2e%2e/admin/api/keys",
        "/ADMIN/api/keys",
        "/admin/api/KEYS",
        "/admin/api/keys;x",
        "/admin/api/keys%00",
        "/admin/api/nothing",
        "/admin/api/",
    ],
)
async def test_paths_that_only_look_like_a_route_serve_nothing(admin: Any, path: str) -> None:
    """With a good token they are 404, without one 401 or 404."""
    assert await status_of(admin.url, path, ("authorization", f"Bearer {ADMIN}")) == 404
    assert await status_of(admin.url, path) in (401, 404)


@pytest.mark.parametrize("host", ["x/#@evil", "a/b?c=", "a b", "<x>"])
async def test_a_host_that_is_none_is_refused(admin: Any, host: str) -> None:
    """400, with and without a key."""
    for token in (ADMIN, None):
        assert (await admin("GET", "/admin/api/keys", token=token, headers={"host": host})).status == 400


async def test_a_method_that_a_path_does_not_take_is_refused(admin: Any) -> None:
    """405 in OpenAI's form, to those who are known."""
    answer = await admin("PUT", "/admin/api/keys", {})
    assert (answer.status, answer.error["code"]) == (405, "method_not_allowed")
    assert "GET, POST" in answer.error["message"]
    assert answer.headers["allow"] == "GET, POST"
    assert (await admin("PUT", "/admin/api/keys", {}, token=None)).status == 401


async def test_two_authorization_headers_are_none(admin: Any) -> None:
    """Even where both are right."""
    right = ("authorization", f"Bearer {ADMIN}")
    assert await status_of(admin.url, "/admin/api/keys", right) == 200
    assert await status_of(admin.url, "/admin/api/keys", right, right) == 401


async def test_tenants_do_not_see_each_other(admin: Any) -> None:
    """Keys, entries and audit of another tenant do not exist."""
    _, key_id = await admin.key()
    theirs = await admin.outsider(Role.ADMIN)
    listed = await admin("GET", "/admin/api/keys", token=theirs)
    assert [key["id"] for key in listed.json["data"]] == ["abcdefghijkl"]
    assert (await admin("GET", f"/admin/api/keys/{key_id}", token=theirs)).status == 404
    assert (await admin("GET", "/admin/api/audit", token=theirs)).json == {"data": []}
    made = await admin("POST", "/admin/api/keys", {"name": "theirs"}, token=theirs)
    assert made.json["key"].startswith("gw1_other_")


def test_every_admin_route_is_guarded_and_demands_something() -> None:
    """No route exists without a door, no operation without a permission."""
    routes = admin_routes()
    assert all(isinstance(route, Route) and isinstance(route.app, Guarded) for route in routes)
    assert all(isinstance(op.permission, Permission) for op in OPERATIONS)
    assert all(op.permission not in PERMISSIONS[Role.APP] for op in OPERATIONS)
