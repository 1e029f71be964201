"""Health, catalog reload, explanations, and the API's own description."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import structlog
from stores import StoreServer

from gateway.admin.openapi import describe
from gateway.admin.routes import OPERATIONS
from gateway.admin.spreadsheet import csv_of
from gateway.log import configure_logging


async def test_what_other_parts_know_is_told(admin: Any) -> None:
    """Health, a plan for a request now, and the decision of a past one."""
    assert (await admin("GET", "/admin/api/health")).json == {"status": "ok"}
    request = {"model": "fast", "messages": [{"role": "user", "content": "hé"}]}
    assert (await admin("POST", "/admin/api/explain", {"request": request})).json == {"candidates": []}
    body, key_id = admin.seen["explained"]
    assert (json.loads(body), key_id) == (request, "bootstrapadm")
    assert (await admin("GET", "/admin/api/explain?request_id=req_known")).json == {"request_id": "req_known"}
    unknown = await admin("GET", "/admin/api/explain?request_id=req_other")
    assert (unknown.status, unknown.error["code"]) == (404, "not_found")
    assert (await admin("GET", "/admin/api/explain")).error["param"] == "request_id"


async def test_a_reload_is_audited_and_a_bad_catalog_named(admin: Any) -> None:
    """The error of a document that cannot take effect comes back in its own words."""
    assert (await admin("POST", "/admin/api/catalog/reload")).json == {"catalog": "abc"}
    admin.seen["bad_catalog"] = True
    answer = await admin("POST", "/admin/api/catalog/reload")
    assert (answer.status, answer.error["code"]) == (400, "catalog_invalid")
    assert "catalog.yaml:3" in answer.error["message"]
    said = [(e["action"], e["outcome"]) for e in (await admin("GET", "/admin/api/audit")).json["data"]]
    assert said == [("catalog.reload", outcome) for outcome in ("failed", "done", "done")]


async def test_every_answer_carries_its_request_id_and_is_not_kept(admin: Any) -> None:
    """Good and bad ones alike."""
    for path in ("/admin/api/health", "/admin/api/keys/zzzzzzzzzzzz"):
        answer = await admin("GET", path)
        assert answer.headers["x-request-id"].startswith("req_")
        assert answer.headers["cache-control"] == "no-store"
    assert answer.error["request_id"] == answer.headers["x-request-id"]


async def test_the_description_covers_every_operation(admin: Any) -> None:
    """Paths, bodies and parameters come from the table; every reference leads somewhere."""
    described = (await admin("GET", "/admin/api/openapi.json")).json
    assert described["openapi"] == "3.1.0"
    listed = {(path, method) for path, methods in described["paths"].items() for method in methods}
    assert listed == {(op.path, op.method.lower()) for op in OPERATIONS}
    create = described["paths"]["/admin/api/keys"]["post"]
    reference = create["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    fields = described["components"]["schemas"][reference.rsplit("/", 1)[1]]["properties"]
    contract = {"name", "team", "tags", "tiers", "budget", "rpm", "tpm", "concurrency", "expires_at", "role"}
    assert contract <= fields.keys()
    parameters = {p["name"] for p in described["paths"]["/admin/api/report"]["get"]["parameters"]}
    assert parameters == {"from", "to", "by", "format"}
    text = json.dumps(described)
    for name in {part.split('"', 1)[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in described["components"]["schemas"]


def test_operations_are_told_apart_by_name() -> None:
    """Generated clients name their methods by operationId."""
    ids = [o["operationId"] for methods in describe(OPERATIONS)["paths"].values() for o in methods.values()]
    assert len(set(ids)) == len(OPERATIONS)


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\tx", "'\tx"),
        ("plain", "plain"),
        ("", ""),
        (None, ""),
    ],
)
def test_text_that_reads_as_a_formula_is_quoted(text: str | None, cell: str) -> None:
    """Numbers stay numbers, negative ones too."""
    made = csv_of(["team", "cost"], frozenset({"cost"}), [{"team": text, "cost": -5}])
    assert made.decode() == f"team,cost\r\n{cell},-5\r\n"


@pytest.mark.parametrize("text", ['a"b', "a,b", "a\r\nb"])
def test_text_that_would_break_a_row_is_enclosed(text: str) -> None:
    """RFC 4180's own rules."""
    made = csv_of(["team"], frozenset(), [{"team": text}]).decode()
    assert made == 'team\r\n"' + text.replace('"', '""') + '"\r\n'


async def test_an_outage_of_the_store_is_a_503(admin: Any, session_store: StoreServer) -> None:
    """The admin token still identifies; what needs the store says that it cannot now."""
    session_store.stop()
    try:
        answer = await admin("GET", "/admin/api/keys")
        health = await admin("GET", "/admin/api/health")
    finally:
        await asyncio.to_thread(session_store.start)
    assert (answer.status, answer.error["code"]) == (503, "ledger_unavailable")
    assert answer.headers["retry-after"] == "1"
    assert health.status == 200


async def test_a_failure_of_our_own_tells_nothing(admin: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """500 with the request id; the cause is in the log only, and the body that met it in neither."""
    configure_logging("info", "json")
    admin.seen["fails"] = True
    answer = await admin("POST", "/admin/api/explain", {"request": {"model": "a canary"}})
    assert (answer.status, answer.error["code"]) == (500, "internal_error")
    assert "inner words" not in answer.text
    logged = "".join(capfd.readouterr())
    structlog.reset_defaults()
    assert answer.error["request_id"] in logged
    assert "canary" not in logged
